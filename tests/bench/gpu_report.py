"""docs/performance.md, made from the performance benchmark's records alone."""

from gpu_cases import PATHS
from gpu_goals import efficiency_of, goals_table
from gpu_markdown import Sources, machine_of, mebibytes, mfu, percent, section, table
from gpu_records import Record, Records, Result

INTRODUCTION = """\
# Performance

Made by `make bench-gpu DATA=...` (`python tests/bench/gpu.py --help`) from the records beside this file, one call a
part where need be; each row names by a letter the call, machine and commit that measured it. The public scripts'
figures were recorded once on one H100 80GB HBM3 with torch 2.11, each script unchanged and alone; ratios are Caddie's
figure over theirs."""
STEPS_NOTE = """\
A step is the trainer's own: set up, compiled, captured and settled as a run does it, then 20 steps, timed as training
times them; the median counts. MFU takes 6 operations a matrix weight and token (a looped layer once a pass, the tied
embedding once) and causal attention, over 989 TFLOP/s, the data sheet's dense bf16. Matrix products alone reach about
790 TFLOP/s on an H100 (measured on random data), which is 80 % of that. Memory is the allocator's peak."""
CHECKS_NOTE = """\
One micro-batch's loss and gradients as training passes them, and of the eager form without fast paths in the same
number format (plain), each against the eager form in float32: norms of differences over norms, of all gradients
together and of the worst one."""
KERNELS_NOTE = """\
What a step of naive_baseline at 524,288 tokens spends on the device, by kernel, of two steps profiled."""
SLIDING_NOTE = """\
Scored once after a run's warm-up, as its evaluation does; then twice more. The reference takes one window at a time by
the definition, eager and without fast paths, on a prefix of the split whose last window is ragged."""
START_NOTE = """\
The packed run, started as a study's launcher starts it, 131,072 tokens a step: seconds from its start to its first
timed step. New shapes: empty caches of TorchInductor, Triton and the driver. Seen: the same run again with what the
first left. Python's own files are in the page cache each time. Where the installation keeps no bytecode, runs keep it;
the first on a machine then has none."""
START_WORDS = {"seen": "seen", "new": "new", "first": "new, and no bytecode"}
SHARE_NOTE = """\
Seconds from the first run's written program to the last run's end, and those of them in timed training steps. A run's
start-up does not count what it waited for the others; up to three runs share a GPU and train in turn."""
SCALING_NOTE = """\
naive_baseline by torchrun, 524,288 tokens a step over all GPUs of one host. All-reduce is from the last gradient to the
mean of all, waiting for slower ranks included; it and the optimizer are marked on the device within the timed steps."""
TINY_NOTE = "**Some figures are of a trial with `--tiny` and say nothing.**"
PATHS_NOTE = """\
Milliseconds a step of 131,072 tokens with all fast paths, with all less one, and with none; in brackets what that adds
to all of them. Without copies the kernels of the MLP and of heads stay off too."""


def render(records: Records) -> str:
    """The whole file."""
    sources = Sources(records)
    sections = [
        section("Goals", goals_table(sources)),
        steps_section(sources),
        kernels_section(sources),
        sliding_section(sources),
        start_section(sources),
        share_section(sources),
        scaling_section(sources),
        paths_section(sources),
    ]
    if any("--tiny" in record.command for record in records.values()):
        sections.insert(0, TINY_NOTE)
    calls = section("Measured by", sources.table() if sources.calls else "")
    return "\n\n".join(filter(None, [INTRODUCTION, calls, *sections])) + "\n"


def steps_section(sources: Sources) -> str:
    """Each step in detail, and how exact its gradients are."""
    records = sources.named("steps")
    head = ("recipe", "tokens", "ms a step", "least to most", "tokens/s", "TFLOP/s", "MFU", "optimizer", "peak memory")
    rows = [cells for record in records for cells in step_rows(sources, record)]
    steps = table((*head, "reserved", "micro-batch", "compiled and settled", "run"), rows) if rows else ""
    fast = sorted({", ".join(record.result["fast"]) or "none" for record in records if record.result})
    checks = [cells for record in records if record.result for cells in check_rows(record.result)]
    check_head = ("recipe", "progress", "loss", "gradients", "worst", "plain loss", "plain gradients", "plain worst")
    return section(
        "Training steps",
        STEPS_NOTE if rows else "",
        steps,
        f"Fast paths: {'; '.join(fast)}." if fast else "",
        f"{CHECKS_NOTE}\n\n{table(check_head, checks)}" if checks else "",
    )


def step_rows(sources: Sources, record: Record) -> list[list[str]]:
    """A row for each progress."""
    result = record.result
    return [] if result is None else [step_row(result, row, sources.letter(record.name)) for row in result["at"]]


def step_row(result: Result, row: Result, letter: str) -> list[str]:
    """One row of the steps' table."""
    return [
        result["recipe"] + (", loop on" if row["is_looped"] else ""),
        f"{result['tokens']:,}",
        f"{row['ms']:.2f}",
        f"{row['least_ms']:.2f} to {row['most_ms']:.2f}",
        f"{1000 * result['tokens'] / row['ms']:,.0f}",
        f"{row['flops'] / row['ms'] / 1e9:.0f}",
        percent(mfu(row)),
        f"{row['optimizer_ms']:.2f} ms",
        mebibytes(result["peak_bytes"]),
        mebibytes(result["reserved_bytes"]),
        f"{result['micro_sequences']} x {result['seq_len']}",
        f"{result['warm_up_seconds']:.0f} s",
        letter,
    ]


def check_rows(result: Result) -> list[list[str]]:
    """A row for each check."""
    return [
        [
            result["recipe"],
            f"{check['progress']:g}",
            *(f"{check[key]:.1e}" for key in ("loss", "gradient")),
            f"{check['worst']:.1e} ({check['worst_name']})",
            *(f"{check['plain'][key]:.1e}" for key in ("loss", "gradient", "worst")),
        ]
        for check in result.get("checks", [])
    ]


def kernels_section(sources: Sources) -> str:
    """Where the large step's time goes."""
    result = sources.result("steps.naive_524288")
    if result is None or "profile" not in result:
        return ""
    profile, step = result["profile"], result["at"][-1]["ms"]
    rows = [
        [
            f"{kernel['ms']:.3f}",
            percent(kernel["ms"] / profile["total_ms"]),
            f"{kernel['calls']:g}",
            f"`{kernel['name'][:100]}`",
        ]
        for kernel in profile["kernels"]
    ]
    rest = profile["other_ms"]
    rows.append([f"{rest:.3f}", percent(rest / profile["total_ms"]), "", f"{profile['other_kernels']} others"])
    letter = sources.letter("steps.naive_524288")
    total = f"{profile['total_ms']:.1f} ms in kernels; {step:.1f} ms a step without the profiler (run {letter})."
    return section("Kernels", KERNELS_NOTE, total, table(("ms a step", "share", "calls", "kernel"), rows))


def sliding_section(sources: Sources) -> str:
    """Seconds of scoring and the comparison with the reference."""
    result = sources.result("sliding.naive")
    if result is None:
        return ""
    prefix = result["prefix"]
    again = " and ".join(f"{seconds:.2f}" for seconds in result["again_seconds"])
    lines = [
        f"- {result['tokens']:,} tokens: {result['seconds']:.2f} s, again {again} s; non-overlapping windows "
        f"{result['non_overlapping_seconds']:.2f} s (run {sources.letter('sliding.naive')}).",
        f"- Prefix of {prefix['windows']:,} windows, {prefix['tokens']:,} tokens: BPB {prefix['bpb']['fast']:.6f}, "
        f"reference {prefix['bpb']['plain']:.6f}, reference in float32 {prefix['bpb']['exact']:.6f}.",
        f"- Greatest difference of a token's nats: {prefix['fast_to_plain_nats']:.1e} to the reference, "
        f"{prefix['fast_to_exact_nats']:.1e} to float32, from which the reference itself differs by "
        f"{prefix['plain_to_exact_nats']:.1e}.",
    ]
    return section("Sliding windows", SLIDING_NOTE, "\n".join(lines))


def start_section(sources: Sources) -> str:
    """The phases of a start."""
    rows = [
        [
            record.result["recipe"],
            words,
            f"{record.result[shapes]['seconds']:.1f} s",
            ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in record.result[shapes]["phases"]),
            f"{record.result[shapes]['first_step_seconds']:.2f} s",
            sources.letter(record.name),
        ]
        for record in sources.named("start")
        if record.result
        for shapes, words in START_WORDS.items()
        if shapes in record.result
    ]
    head = ("recipe", "shapes", "to the first timed step", "seconds of", "that step", "run")
    return section("Start-up", START_NOTE, table(head, rows)) if rows else ""


def share_section(sources: Sources) -> str:
    """The runs of the study."""
    result = sources.result("share.study")
    if result is None:
        return ""
    total = (
        f"{result['train_seconds']:.1f} s of training in {result['seconds']:.1f} s on {result['gpus']} GPU(s): "
        f"{result['share']:.3f} (run {sources.letter('share.study')}); {result['unfinished']} runs did not train to "
        "their end."
    )
    rows = [
        [
            run["name"],
            f"{run['start'] - result['begin']:.1f} to {run['end'] - result['begin']:.1f} s",
            *(f"{run[key]:.1f} s" for key in ("start_up_seconds", "waited_seconds", "train_seconds")),
        ]
        for run in result["runs"]
    ]
    return section(
        "A study's GPU", SHARE_NOTE, total, table(("run", "from, to", "start-up", "waited", "trained"), rows)
    )


def scaling_section(sources: Sources) -> str:
    """Steps on several GPUs, and what eight would do where there are fewer."""
    rows, projections = list[list[str]](), list[str]()
    for record in sources.named("scaling"):
        machine, _, which = record.name.rpartition(".")
        if record.result is None or which == "eighth":
            continue
        one = sources.result(f"{machine}.1")
        rows.append(scaling_row(record, one, sources.letter(record.name)))
        eighth = sources.result(f"{machine}.eighth")
        if which == "2" and one is not None and eighth is not None:
            projections.append(projection(one, record.result, eighth, sources.letter(f"{machine}.eighth")))
    head = ("machine", "GPUs used", "ms a step", "efficiency", "all-reduce", "optimizer", "MFU of each", "run")
    return section("Several GPUs", SCALING_NOTE, table(head, rows), *projections) if rows else ""


def scaling_row(record: Record, one: Result | None, letter: str) -> list[str]:
    """A row of the scaling table."""
    result = record.result or {}
    row = result["at"][0]
    return [
        machine_of(record.gpus, record.device),
        str(result["world_size"]),
        f"{row['ms']:.2f}",
        f"{efficiency_of(one, result):.3f}" if one else "-",
        f"{row['all_reduce_ms']:.2f} ms",
        f"{row['optimizer_ms']:.2f} ms",
        percent(mfu(row)),
        letter,
    ]


def projection(one: Result, two: Result, eighth: Result, letter: str) -> str:
    """What 8 GPUs would take, in words: an eighth of the tokens on one GPU, and a ring's all-reduce of 8."""
    alone, reduce = eighth["at"][0]["ms"], two["at"][0]["all_reduce_ms"] * (2 * 7 / 8) / (2 * 1 / 2)
    step = alone + reduce
    efficiency = one["at"][0]["ms"] / step / 8
    optimizer = eighth["at"][0]["optimizer_ms"]
    return (
        f"Projected, not measured, for 8 GPUs: {step:.1f} ms a step, efficiency {efficiency:.2f}. One GPU takes "
        f"{alone:.2f} ms for the {eighth['tokens']:,} tokens of a rank (run {letter}), of which {optimizer:.2f} ms are "
        "the optimizer's, the same on every rank; the all-reduce of two GPUs, times the 1.75 that a ring of 8 moves as "
        f"much, adds {reduce:.2f} ms."
    )


def paths_section(sources: Sources) -> str:
    """What each fast path is worth."""
    columns = [(recipe, at) for recipe, count in (("naive_baseline", 1), ("record_1855", 2)) for at in range(count)]
    variants = ["all", *(f"no_{path}" for path in PATHS), "none"]
    if not sources.named("paths"):
        return ""
    rows = [
        [
            variant.replace("no_", "all but ") if variant != "none" else "none",
            *(path_cell(sources, recipe, variant, at) for recipe, at in columns),
            ", ".join(sorted({sources.letter(f"paths.{recipe}.{variant}") for recipe, _ in columns})),
        ]
        for variant in variants
    ]
    head = ("fast paths", "naive_baseline", "record_1855, before its loop", "record_1855, in its loop", "run")
    return section("Fast paths", PATHS_NOTE, table(head, rows))


def path_cell(sources: Sources, recipe: str, variant: str, at: int) -> str:
    """Milliseconds, and how many more than with all fast paths."""
    case = f"paths.{recipe}.{variant}"
    result, every = sources.result(case), sources.result(f"paths.{recipe}.all")
    if result is None:
        return sources.why_not(case)
    milliseconds = result["at"][at]["ms"]
    return f"{milliseconds:.2f} ({milliseconds - every['at'][at]['ms']:+.2f})" if every else f"{milliseconds:.2f}"
