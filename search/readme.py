"""The README of an exported submission: what it is, what was measured, how to measure it again, how it was found."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from search.claim import OPEN_TRACK, TRACK_ARTIFACT_BYTES, Claim
from spaces.fields import flat, recipe_to_dict
from trainer.config import Budget


def readme(claim: Claim, tokenizer: str, manifest: Mapping[str, Any] | None) -> str:
    """The README's Markdown.

    Args:
        tokenizer: path of the tokenizer inside the folder.
        manifest: dataset.json of the data that was used, where there is one.
    """
    sections = [
        headline(claim),
        "## Results\n\n" + results(claim),
        "## Model\n\n" + recipe_table(claim),
        "## Reproduce\n\n" + reproduce(claim, tokenizer),
        "## Data\n\n" + data(claim, tokenizer, manifest),
        "## How it was found\n\n" + found(claim),
        "## Files\n\n" + FILES,
    ]
    return "\n\n".join(sections) + "\n"


FILES = """\
- `train_gpt.py`: the file that ran and whose bytes are counted: LZMA of the Python source, base85-encoded.
- `train_gpt_readable.py`: the same code as plain text. It was not executed and is not counted.
- `train_seed*.log`: the runs' own logs, complete.
- `submission.json`, `requirements.txt`, and the tokenizer in `tokenizers/`."""


def headline(claim: Claim) -> str:
    """Title, score and one paragraph."""
    spread = "one seed" if claim.val_bpb_std is None else f"std {claim.val_bpb_std:.5f}, {len(claim.runs)} seeds"
    lines = [
        f"# {claim.name}",
        "",
        f"**val_bpb {claim.val_bpb:.4f}** ({spread}), sliding window over the weights read back from the artifact;",
        f"**{claim.artifact_bytes:,} bytes** of {TRACK_ARTIFACT_BYTES:,} (code and compressed weights, largest seed).",
        "",
        claim.entry.blurb or f"{claim.techniques[:1].upper()}{claim.techniques[1:]}.",
    ]
    if claim.entry.base_pr is not None:
        lines += ["", f"Builds on #{claim.entry.base_pr}."]
    return "\n".join([*lines, "", *limits_of_claim(claim)]).rstrip()


def limits_of_claim(claim: Claim) -> list[str]:
    """What a reader must know before comparing the score with others."""
    lines: list[str] = []
    if claim.track == OPEN_TRACK:
        lines.append(f"Not a record run: measured on {claim.hardware}, {shown_budget(claim.origin.budget)}.")
    if claim.origin.budget.eval_tokens is not None:
        lines.append(f"Scored on the first {claim.origin.budget.eval_tokens:,} tokens of the validation data only.")
    return lines


def shown_budget(budget: Budget) -> str:
    """How long training was allowed to take."""
    if budget.train_seconds is not None:
        return f"{budget.train_seconds:g} s of training"
    return f"{budget.train_tokens:,} training tokens"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results(claim: Claim) -> str:
    """Scores, bytes and times of every seed."""
    scores = [
        [
            str(one.seed),
            f"{one.val_bpb:.6f}",
            f"{one.val_loss:.6f}",
            f"{one.pre_quant_val_bpb:.4f}",
            f"{one.post_quant_val_bpb:.4f}",
            f"{one.steps:,}",
            f"{one.step_avg_ms:.2f}",
            f"{one.train_seconds:.1f}",
            f"{one.eval_seconds:.1f}",
        ]
        for one in claim.measurements
    ]
    mean = ["**mean**", f"**{claim.val_bpb:.6f}**", f"**{claim.val_loss:.6f}**", *[""] * 6]
    std = (
        []
        if claim.val_bpb_std is None
        else [["std", f"{claim.val_bpb_std:.6f}", f"{claim.val_loss_std:.6f}", *[""] * 6]]
    )
    header = ["seed", "val_bpb", "val_loss", "before quantization", "after, no overlap", "steps", "ms/step"]
    sizes = [
        [
            str(one.seed),
            f"{one.code_bytes:,}",
            f"{one.weight_bytes:,}",
            f"{one.artifact_bytes:,}",
            f"{TRACK_ARTIFACT_BYTES - one.artifact_bytes:,}",
            f"{one.train_tokens:,}",
            f"{one.peak_memory_bytes // 2**20:,} MiB",
        ]
        for one in claim.measurements
    ]
    size_header = ["seed", "code bytes", "weight bytes", "total", "left", "training tokens", "peak memory"]
    return "\n\n".join(
        [
            table([*header, "train s", "eval s"], [*scores, mean, *std]),
            table(size_header, sizes),
            f"Hardware: {claim.hardware}. {claim.measurements[0].num_parameters:,} parameters. Training time includes "
            "quantization; evaluation time includes reading the artifact back. Nothing is adapted while scoring: no "
            "test-time training, no n-gram cache, one pass.",
        ]
    )


def recipe_table(claim: Claim) -> str:
    """Every setting of the recipe."""
    values = flat(recipe_to_dict(claim.origin.recipe))
    return table(
        ["setting", "value"],
        [[f"`{path}`", "none" if value is None else str(value)] for path, value in values.items()],
    )


def reproduce(claim: Claim, tokenizer: str) -> str:
    """Commands that run the submission again."""
    world_size = claim.origin.budget.world_size
    torchrun = f"torchrun --standalone --nproc-per-node={world_size}"
    command = "python train_gpt.py" if world_size == 1 else f"{torchrun} train_gpt.py"
    seeds = " ".join(str(one.seed) for one in claim.measurements)
    measurement = claim.measurements[0]
    return f"""\
From inside a copy of this folder, with Python {measurement.python_version}, and DATA set to the folder of the shards
below:

```bash
pip install -r requirements.txt
for seed in {seeds}; do
    DATA_PATH="$DATA" TOKENIZER_PATH={tokenizer} SEED=$seed RUN_ID=seed$seed {command}
done
```

Every run writes `train.log`, `result.json` and `weights.bin` into the working folder. Code and settings are in
`train_gpt.py`; it reads nothing from outside but DATA_PATH, TOKENIZER_PATH, SEED and RUN_ID, and torchrun's variables.
Budget: {shown_budget(claim.origin.budget)}. On CPU a budget in tokens gives the same score to the last digit."""


def data(claim: Claim, tokenizer: str, manifest: Mapping[str, Any] | None) -> str:
    """Which shards and tokenizer, and how to make them again."""
    vocab_size = claim.origin.recipe.model.vocab_size
    text = f"""\
Tokenizer: `{tokenizer}`, SentencePiece BPE of {vocab_size} pieces. Shards (`fineweb_train_*.bin`, `fineweb_val_*.bin`):
the folder named `{claim.origin.data_path.name}` during the runs, in the challenge's format: 256 little-endian int32 of
header (20240520, 1, number of tokens), then uint16 token ids, BOS before every document."""
    rebuild = f"caddie data build --docs DOCUMENTS.jsonl --vocab-size {vocab_size} --tokenizer {tokenizer} --out DATA"
    if manifest is None:
        return f"{text} Made again with `{rebuild}` and the validation documents, from JSON lines of documents."
    val = "--val-docs VALIDATION.jsonl" if manifest["val_docs"] else f"--val-documents {manifest['val']['documents']}"
    rebuild = f"{rebuild} {val}"
    shown = json.dumps(manifest, indent=2)
    return f"{text} `{rebuild}` makes them again from the documents named here:\n\n```json\n{shown}\n```"


def found(claim: Claim) -> str:
    """The search behind the claim."""
    origin = claim.origin
    without = [str(seed) for seed in origin.seeds if seed not in {one.seed for one in claim.measurements}]
    left_out = f" Without a feasible result, and so not above: seeds {', '.join(without)}." if without else ""
    return (
        f"Trial {origin.trial_number} of rung `{origin.rung}` in the study `{origin.study}` of Caddie, an architecture "
        f"search. The study has finished {origin.num_trials:,} trials in {origin.gpu_hours:.2f} GPU-hours "
        "(process-hours on CPU). "
        f"Seeds are those of the study file, fixed before any run.{left_out}"
    )
