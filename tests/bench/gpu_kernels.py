"""The section of docs/performance.md that says where a step's time goes."""

import re

from gpu_markdown import Sources, percent, section, table
from gpu_records import Record, Result

NOTE = """\
What two profiled steps spent on the device, by kernel: first summed by kind, then the longest ones. Matrix products are
those of cuBLAS and of the trainer's own kernels that multiply matrices."""
SHOWN_KERNELS = 14
# The first that is found in a kernel's name says its kind.
KINDS = {
    "attention": re.compile(r"sdpa|flash|attention|fmha|cudnn::fusion", re.IGNORECASE),
    "matrix products": re.compile(r"nvjet|gemm|cutlass|xmma|squared_(up|back)_kernel|stationary_kernel", re.IGNORECASE),
    "copies and fills": re.compile(r"memcpy|memset|foreach", re.IGNORECASE),
    "elementwise and sums": re.compile(""),
}


def kernels_section(sources: Sources) -> str:
    """Every profiled step: kinds side by side, then kernels."""
    profiled = [record for record in sources.named("steps") if record.result and "profile" in record.result]
    if not profiled:
        return ""
    kinds = table(
        ("recipe", "tokens", "in kernels", "a step", *KINDS, "run"), [kinds_row(sources, r) for r in profiled]
    )
    return section("Kernels", NOTE, kinds, *(kernels_table(record.result) for record in profiled if record.result))


def kind_of(kernel: str) -> str:
    """What a kernel does, by its name."""
    return next(kind for kind, pattern in KINDS.items() if pattern.search(kernel))


def kinds_row(sources: Sources, record: Record) -> list[str]:
    """Milliseconds of each kind."""
    result = record.result or {}
    profile = result["profile"]
    sums = dict.fromkeys(KINDS, 0.0)
    for kernel in profile["kernels"]:
        sums[kind_of(kernel["name"])] += kernel["ms"]
    sums["elementwise and sums"] += profile["other_ms"]
    return [
        result["recipe"],
        f"{result['tokens']:,}",
        f"{profile['total_ms']:.1f} ms",
        f"{result['at'][-1]['ms']:.1f} ms",
        *(f"{milliseconds:.1f} ms" for milliseconds in sums.values()),
        sources.letter(record.name),
    ]


def kernels_table(result: Result) -> str:
    """The longest kernels of a step."""
    profile = result["profile"]
    shown, rest = profile["kernels"][:SHOWN_KERNELS], profile["kernels"][SHOWN_KERNELS:]
    rows = [
        [
            f"{kernel['ms']:.3f}",
            percent(kernel["ms"] / profile["total_ms"]),
            f"{kernel['calls']:g}",
            kind_of(kernel["name"]),
            f"`{kernel['name'][:100]}`",
        ]
        for kernel in shown
    ]
    others = profile["other_ms"] + sum(kernel["ms"] for kernel in rest)
    count = profile["other_kernels"] + len(rest)
    rows.append([f"{others:.3f}", percent(others / profile["total_ms"]), "", "", f"{count} others"])
    head = ("ms a step", "share", "calls", "kind", "kernel")
    return f"{result['recipe']}, {result['tokens']:,} tokens:\n\n{table(head, rows)}"
