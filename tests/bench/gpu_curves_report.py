"""The section of docs/performance.md on training with and without fast paths."""

from itertools import combinations
from statistics import mean

from gpu_markdown import Sources, section, table
from gpu_records import Result

NOTE = """\
Mean training loss in nats over each tenth of a run, with fast paths and without, the same seeds. Apart by paths: with
less without, the mean over seeds. Apart by seed: between seeds of one way, the mean of both."""


def curves_section(sources: Sources) -> str:
    """The curves, and how far they part."""
    result = sources.result("curves.naive")
    if result is None:
        return ""
    letter = sources.letter("curves.naive")
    total = f"{result['recipe']}, {result['steps']} steps of {result['tokens']:,} tokens (run {letter})."
    head = ("tenth", *(f"{way}, seed {seed}" for way in result["curves"] for seed in result["seeds"]))
    columns = [curve for curves in result["curves"].values() for curve in curves]
    rows = [
        [
            str(tenth + 1),
            *(f"{curve[tenth]:.4f}" for curve in columns),
            f"{by_paths(result, tenth):+.4f}",
            f"{by_seed(result, tenth):.4f}",
        ]
        for tenth in range(len(columns[0]))
    ]
    return section("Training curves", NOTE, total, table((*head, "apart by paths", "apart by seed"), rows))


def by_paths(result: Result, tenth: int) -> float:
    """What fast paths add to the loss of a tenth, the mean over seeds."""
    fast, plain = (mean(curve[tenth] for curve in result["curves"][way]) for way in ("fast", "plain"))
    return fast - plain


def by_seed(result: Result, tenth: int) -> float:
    """How far two seeds of one way are apart in a tenth, the mean over pairs and ways."""
    pairs = [pair for curves in result["curves"].values() for pair in combinations(curves, 2)]
    return mean(abs(first[tenth] - second[tenth]) for first, second in pairs)
