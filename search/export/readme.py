"""The README of an exported submission: what it is, what was measured, how to measure it again, how it was found."""

from search.export.cautions import cautions
from search.export.claim import TRACK_ARTIFACT_BYTES, Claim
from search.export.markdown import linked, sentence, table
from search.export.readme_origin import data, found, provenance, reproduce
from search.export.readme_results import record_claim, results, shown_budget
from search.export.shipped import Shipped
from search.export.submission_json import compliance
from search.technique import words
from search.techniques import techniques_by_part
from spaces.fields import flat, recipe_to_dict

LEAD = {
    "shape": "A transformer of",
    "parts": "Beside the baseline's parts:",
    "training": "Trained with",
    "storage": "Stored as",
    "scoring": "Scored by",
}


def readme(claim: Claim, shipped: Shipped) -> str:
    """The README's Markdown."""
    sections = [
        headline(claim),
        "## Results\n\n" + results(claim),
        record_claim(claim),
        "## Model\n\n" + model(claim),
        "## Compliance\n\n" + compliance_facts(claim),
        "## Reproduce\n\n" + reproduce(claim, shipped),
        "## Data\n\n" + data(claim, shipped),
        "## How it was found\n\n" + found(claim),
        "## Files\n\n" + files(claim, shipped) + "\n\n" + provenance(claim, shipped),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def headline(claim: Claim) -> str:
    """Title, score, one paragraph, and what to know before comparing the score with others."""
    spread = "one seed" if claim.val_bpb_std is None else f"std {claim.val_bpb_std:.5f}, {len(claim.runs)} seeds"
    adapting = " with score-first adaptation" if claim.origin.recipe.evaluation.adapts else ""
    lines = [
        f"# {claim.name}",
        "",
        f"**val_bpb {claim.val_bpb:.4f}** ({spread}), sliding window{adapting} over the weights read back from the"
        f" artifact; **{claim.artifact_bytes:,} bytes** of {TRACK_ARTIFACT_BYTES:,} (code and compressed weights of the"
        " largest seed).",
        "",
        claim.entry.blurb or sentence(claim.techniques),
    ]
    if claim.entry.base_pr is not None:
        lines += ["", f"Builds on {linked(f'PR {claim.entry.base_pr}')}."]
    return "\n".join([*lines, "", *limits_of_claim(claim)]).rstrip()


def limits_of_claim(claim: Claim) -> list[str]:
    """What a reader must know before comparing the score with others."""
    lines: list[str] = []
    if not claim.is_record:
        lines.append(f"Not a record run: measured on {claim.hardware}, {shown_budget(claim.origin.budget)}.")
    if claim.origin.budget.eval_tokens is not None:
        lines.append(f"Scored on the first {claim.origin.budget.eval_tokens:,} tokens of the validation data only.")
    return lines + [f"\n> **Warning.** {caution}" for caution in cautions(claim)]


def model(claim: Claim) -> str:
    """The recipe in words, its techniques with their sources, and every setting."""
    by_part = techniques_by_part(claim.origin.recipe)
    said = [f"{LEAD[part]} {words(techniques)}." for part, techniques in by_part.items() if techniques]
    rows = [[part, one.phrase, linked(one.source)] for part, techniques in by_part.items() for one in techniques]
    values = flat(recipe_to_dict(claim.origin.recipe))
    settings = [[f"`{path}`", "none" if value is None else str(value)] for path, value in values.items()]
    return "\n\n".join(
        [
            " ".join(said) + f" {claim.measurements[0].num_parameters:,} parameters.",
            table(["part", "technique", "from"], rows),
            "Every setting, as the packed file has it:",
            table(["setting", "value"], settings),
        ]
    )


def compliance_facts(claim: Claim) -> str:
    """What the compliance list of submission.json rests on."""
    facts = compliance(claim.measurements)
    limits = [name for name in ("train_under_600s", "eval_under_600s", "artifact_under_16mb") if facts[name]]
    over = [name for name, is_so in facts.items() if not is_so]
    kept = f"Measured in every run: {', '.join(f'`{name}`' for name in limits)}." if limits else ""
    broken = f" Not so: {', '.join(f'`{name}`' for name in over)}." if over else ""
    reads = (
        "The code reads training shards while it trains and quantizes, and validation shards only to score."
        " `caddie verify` reviews `train_gpt.py` for this without running it."
    )
    return f"{kept}{broken}".strip() + f"\n\n{adaptation(claim)} {reads}"


def adaptation(claim: Claim) -> str:
    """Whether and how anything is learned from validation text."""
    evaluation = claim.origin.recipe.evaluation
    if not evaluation.adapts:
        return "Nothing is adapted while scoring: no test-time training, no n-gram cache, one pass."
    what = "all weights" if evaluation.lora is None else "low-rank additions, anew for each document"
    if evaluation.lora is not None and evaluation.lora.phases:
        what += ", and of the weights themselves on documents that have been scored"
    return (
        f"Test-time training of {what}, score-first: every token is scored, once and for good, before any update that"
        " has seen it; one pass, no n-gram cache, nothing fitted to the tokens being scored."
    )


def files(claim: Claim, shipped: Shipped) -> str:
    """What lies in the folder."""
    lines = [
        "- `train_gpt.py`: the file that ran and whose bytes are counted: LZMA of the Python source, base85-encoded.",
        "- `train_gpt_readable.py`: the same code as plain text. It was not executed and is not counted.",
        "- `train_seed*.log`: the runs' own logs, complete.",
        "- `submission.json`.",
    ]
    if shipped.requirements:
        lines.append("- `requirements.txt`: what the code needs beyond PyTorch, NumPy and SentencePiece.")
    if shipped.has_tokenizer:
        lines.append(f"- `{shipped.tokenizer}`: the tokenizer, which is not the challenge's own.")
    if shipped.has_weights:
        lines.append("- `weights_seed*.bin`: the compressed weights of each run.")
    return "\n".join(lines)
