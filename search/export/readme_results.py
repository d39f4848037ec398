"""The measured part of a submission's README: scores, bytes, times, and what they say against a reference."""

from collections.abc import Callable
from statistics import fmean

from search.export.claim import TRACK_ARTIFACT_BYTES, Claim, deviation
from search.export.markdown import table
from search.export.record import record_facts
from search.export.significance import RECORD_MARGIN, Significance, significance
from trainer.config import Budget
from trainer.result import Measurement

# A column: its header, its value of a run, how it is printed, and whether its standard deviation is of interest.
Column = tuple[str, Callable[[Measurement], float], str, bool]
SCORES: tuple[Column, ...] = (
    ("val_bpb", lambda one: one.val_bpb, ".6f", True),
    ("val_loss", lambda one: one.val_loss, ".6f", True),
    ("before quantization", lambda one: one.pre_quant_val_bpb, ".4f", True),
    ("after, no overlap", lambda one: one.post_quant_val_bpb, ".4f", True),
)
SLIDING: Column = ("before adaptation", lambda one: one.sliding_val_bpb or one.val_bpb, ".4f", True)
TIMES: tuple[Column, ...] = (
    ("steps", lambda one: one.steps, ",.0f", False),
    ("ms/step", lambda one: one.step_avg_ms, ".2f", False),
    ("train s", lambda one: one.train_seconds, ".1f", False),
    ("eval s", lambda one: one.eval_seconds, ".1f", False),
)
BYTES: tuple[Column, ...] = (
    ("code bytes", lambda one: one.code_bytes, ",.0f", False),
    ("weight bytes", lambda one: one.weight_bytes, ",.0f", True),
    ("total", lambda one: one.artifact_bytes, ",.0f", True),
    ("left", lambda one: TRACK_ARTIFACT_BYTES - one.artifact_bytes, ",.0f", False),
    ("training tokens", lambda one: one.train_tokens, ",.0f", False),
    ("peak memory, MiB", lambda one: one.peak_memory_bytes // 2**20, ",.0f", False),
)


def results(claim: Claim) -> str:
    """Scores, bytes and times of every seed, with mean and sample standard deviation."""
    ones = claim.measurements
    adapted = (SLIDING,) if any(one.sliding_val_bpb not in {None, one.val_bpb} for one in ones) else ()
    return "\n\n".join(
        [
            seed_table(ones, (*SCORES, *adapted, *TIMES)),
            seed_table(ones, BYTES),
            f"Hardware: {claim.hardware}. Training time includes quantization; evaluation time includes reading the "
            "artifact back. Standard deviations are those of a sample (n - 1).",
        ]
    )


def seed_table(ones: list[Measurement], columns: tuple[Column, ...]) -> str:
    """A row a seed, then their mean and, of more than one, their standard deviation."""
    rows = [[str(one.seed), *(format(value(one), form) for _, value, form, _ in columns)] for one in ones]
    means = [f"**{format(fmean(map(value, ones)), form)}**" for _, value, form, _ in columns]
    rows.append(["**mean**", *means])
    if len(ones) > 1:
        spreads = [(deviation([*map(value, ones)]) or 0.0, form, is_shown) for _, value, form, is_shown in columns]
        rows.append(["std", *(format(spread, form) if is_shown else "" for spread, form, is_shown in spreads)])
    return table(["seed", *(name for name, *_ in columns)], rows)


def record_claim(claim: Claim) -> str:
    """How the claim stands to a reference and to the rules of the record track; "" where it claims neither."""
    parts: list[str] = []
    test = significance(claim)
    if test is not None:
        parts.append(significance_text(claim, test))
    if claim.is_record:
        rows = [[one.rule, one.expected, one.got] for one in record_facts(claim)]
        parts.append("Rules of the record track, all kept:\n\n" + table(["rule", "asked", "found"], rows))
    title = "## Record claim" if claim.is_record else "## Against a reference"
    return "\n\n".join([title, *parts]) if parts else ""


def significance_text(claim: Claim, test: Significance) -> str:
    """The test, its outcome and what it assumes."""
    given = f"val_loss {test.reference_loss:.6f} nats per token"
    if test.reference_bpb is not None:
        given += f" (val_bpb {test.reference_bpb:.6f}, converted by these runs' own nats per token for a bit per byte)"
    verdict = "is" if test.is_significant else "is not"
    return f"""\
Reference: {given}. Mean of {test.num_seeds} seeds: {test.mean:.6f}, {test.mean - test.reference_loss:+.6f} nats. \
One-sided one-sample t-test that the mean is below the reference by more than {RECORD_MARGIN} nats, that is below \
{test.threshold:.6f}: t = {test.t:.3f} with {test.num_seeds - 1} degrees of freedom, p = {test.p:.3g}. The improvement \
{verdict} significant at p < 0.01.

Assumed: seeds are independent draws, their losses are normally distributed around the recipe's own (which \
{test.num_seeds} values cannot show), and the reference is exact and of the same validation text. \
{chosen_among(claim, test)}"""


def chosen_among(claim: Claim, test: Significance) -> str:
    """How the choice of the recipe bears on the test."""
    others = claim.origin.num_recipes
    if others <= 1:
        return "The recipe was the only one measured in its rung."
    return (
        f"The recipe is one of {others} measured in its rung; p is not corrected for the choice among them"
        f" (times {others}, after Bonferroni: {min(1.0, others * test.p):.3g})."
    )


def shown_budget(budget: Budget) -> str:
    """How long training was allowed to take."""
    if budget.train_seconds is not None:
        return f"{budget.train_seconds:g} s of training"
    return f"{budget.train_tokens:,} training tokens"
