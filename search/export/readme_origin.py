"""The part of a submission's README that says where things come from: commands, data, the search, hashes."""

import json

from search.export.claim import Claim, RankCorrelation
from search.export.markdown import table
from search.export.readme_results import shown_budget
from search.export.shipped import CHALLENGE_DATASET, Shipped, sha256_of


def reproduce(claim: Claim, shipped: Shipped) -> str:
    """Commands that run the submission again."""
    world_size, measurement = claim.origin.budget.world_size, claim.measurements[0]
    torchrun = f"torchrun --standalone --nproc-per-node={world_size}"
    command = "python" if world_size == 1 else torchrun
    seeds = " ".join(str(one.seed) for one in claim.measurements)
    packages = "-r requirements.txt" if shipped.requirements else " ".join(shipped.needs)
    install = f"pip install {packages}\n" if packages else ""
    tokenizer = f'"$PWD/{shipped.tokenizer}"' if shipped.has_tokenizer else f"/path/to/{shipped.tokenizer}"
    return f"""\
From inside a copy of this folder, with Python {measurement.python_version}, torch {measurement.torch_version} and \
{claim.hardware}; DATA is the folder of the shards below, as an absolute path:

```bash
{install}DATA=/path/to/{claim.origin.data_path.name}
TOKENIZER={tokenizer}
HERE="$PWD" AGAIN="$(mktemp -d)"
for seed in {seeds}; do
    mkdir "$AGAIN/seed$seed" && cd "$AGAIN/seed$seed"
    DATA_PATH="$DATA" TOKENIZER_PATH="$TOKENIZER" SEED=$seed RUN_ID=seed$seed {command} "$HERE/train_gpt.py"
done
```

Every run writes `train.log`, `result.json` and `weights.bin` into its working folder. Code and settings are in
`train_gpt.py`; it reads no other variables than these, torchrun's, and TURN_FILE where runs share a GPU.
Budget: {shown_budget(claim.origin.budget)}. On CPU a budget in tokens gives the same score to the last digit; on GPUs,
and with a budget in seconds, two runs of a seed differ a little.
`caddie verify "$HERE" --rerun --data "$DATA" --tokenizer "$TOKENIZER"` does the first of these runs and compares;
`--tolerance` says by how much val_bpb may differ: nothing for runs on a CPU, 0.005 for others, unless it is given."""


def data(claim: Claim, shipped: Shipped) -> str:
    """Which shards and tokenizer, and how to make them again."""
    vocab_size, name = claim.origin.recipe.model.vocab_size, claim.origin.data_path.name
    digest = f", sha256 `{shipped.tokenizer_sha256}`" if shipped.tokenizer_sha256 else ""
    shards = f" {shipped.train_shards} training shards." if shipped.train_shards else ""
    text = f"""\
Tokenizer: `{shipped.tokenizer}`{digest}, SentencePiece BPE of {vocab_size} pieces. Shards (`fineweb_train_*.bin`, \
`fineweb_val_*.bin`): the folder named `{name}` during the runs, in the challenge's format: 256 little-endian int32 of
header (20240520, 1, number of tokens), then uint16 token ids, BOS before every document.{shards}"""
    if not shipped.has_tokenizer:
        return (
            f"{text} Both are the challenge's own and not copied here: `data/cached_challenge_fineweb.py --variant "
            f"{CHALLENGE_DATASET.rpartition('_')[2]}` in a checkout of the challenge downloads them."
        )
    rebuild = f"caddie data build --docs DOCUMENTS.jsonl --vocab-size {vocab_size} --tokenizer {shipped.tokenizer}"
    if shipped.manifest is None:
        made = f"{rebuild} --out DATA"
        return f"{text} Made again with `{made}` and the validation documents, from JSON lines of documents."
    documents = shipped.manifest["val"]["documents"]
    val = "--val-docs VALIDATION.jsonl" if shipped.manifest["val_docs"] else f"--val-documents {documents}"
    shown = json.dumps(shipped.manifest, indent=2)
    made = f"{rebuild} --out DATA {val}"
    return f"{text} `{made}` makes them again from the documents named here:\n\n```json\n{shown}\n```"


def found(claim: Claim) -> str:
    """The search behind the claim."""
    origin = claim.origin
    lines = [
        f"Trial {origin.trial_number} of rung `{origin.rung}` in the study `{origin.study}` of Caddie, an architecture "
        f"search. The study has finished {origin.num_trials:,} trials in {origin.gpu_hours:.2f} GPU-hours "
        f"(process-hours on CPU); this rung measured {count_text(origin.num_recipes, 'recipe')}. {seeds_text(claim)}"
    ]
    if origin.rank_correlations:
        pairs = "\n".join(f"- {correlation_text(one)}" for one in origin.rank_correlations)
        lines.append(f"Rank correlation of the mean val_bpb of recipes that two rungs share (Spearman):\n\n{pairs}")
    if origin.lost:
        lost = "\n".join(f"- {line}" for line in origin.lost)
        lines.append(f"Attempts at this recipe in this rung that measured nothing and were repeated:\n\n{lost}")
    return "\n\n".join(lines)


def count_text(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def seeds_text(claim: Claim) -> str:
    """Where the seeds come from, and which of them are not above."""
    text = "Seeds are those of the study file, fixed before any run."
    if claim.left_out:
        seeds = ", ".join(str(one.seed) for one in claim.left_out)
        reasons = "; ".join(f"{one.seed}: {one.reason}" for one in claim.left_out)
        text += f" Without a feasible result, and so not above: seeds {seeds}. Why: {reasons}."
    return text


def correlation_text(one: RankCorrelation) -> str:
    """One pair of rungs, as caddie status prints it."""
    value = "too few for one, which needs 3" if one.spearman is None else f"{one.spearman:.2f}"
    return f"`{one.low}` to `{one.high}`: {value} ({one.recipes} recipes in both)"


def provenance(claim: Claim, shipped: Shipped) -> str:
    """What was hashed when, so that a reader knows what proves what."""
    rows = [
        [str(run.measurement.seed), f"`{sha256_of(shipped.logs[run.measurement.seed])}`", log_proof(run.log_sha256)]
        for run in sorted(claim.runs, key=lambda run: run.measurement.seed)
    ]
    weights = [[str(one.seed), f"`{one.weight_sha256}`", "measured by the run"] for one in claim.measurements]
    return (
        f"`train_gpt.py` has sha256 `{claim.runs[0].code_sha256}`: recorded before each run started, and measured by"
        " each run of the file it was running.\n\n"
        + table(["seed", "sha256 of its log", "proof"], rows)
        + "\n\n"
        + table(["seed", "sha256 of its weight file", "proof"], weights)
    )


def log_proof(log_sha256: str) -> str:
    """What stands behind a log."""
    return "recorded as the run ended" if log_sha256 else "none recorded; it agrees with what was measured"
