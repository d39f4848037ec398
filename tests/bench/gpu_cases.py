"""The cases of the performance benchmark: each a process of one of the scripts beside this one."""

from collections.abc import Sequence
from dataclasses import dataclass

WORLD_SIZES = (1, 2, 4, 8)
# The switches of trainer.fast.FastPaths, which this driver could read only by importing torch; a test compares them.
PATHS = ("copies", "mlp", "mix", "heads", "losses", "muon")
NAIVE, RECORD_414, RECORD_1855 = "naive_baseline", "record_414", "record_1855"
LARGE_BATCH, PROXY_BATCH = 524_288, 131_072
BEFORE_LOOP, IN_LOOP = "0.1", "0.5"  # progress; record_1855's loop goes on at 0.35


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One process of the benchmark.

    Attributes:
        name: the part, a dot and the case.
        script: its file, beside this one.
        dataset: its folder within DATA; "" where it reads none.
        world_size: processes, by torchrun where there are several.
        limit_seconds: after which it is ended and counts as failed.
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    dataset: str = ""
    world_size: int = 1
    limit_seconds: float = 400.0


def all_cases(num_gpus: int, share_runs: str | None) -> list[Case]:
    """Every case that this machine can run, in the order of the table.

    Args:
        num_gpus: of the machine; without any, ranks of the dry run are processes.
        share_runs: folder of a finished study's runs; None leaves its case out.
    """
    shares = [share_case(share_runs, num_gpus)] if share_runs else []
    return [*step_cases(), sliding_case(), *start_cases(), *shares, *scaling_cases(num_gpus), *path_cases()]


def selected(cases: Sequence[Case], prefixes: Sequence[str]) -> list[Case]:
    """The cases whose name is one of the prefixes, or goes on after one with a dot."""
    return [case for case in cases if any(f"{case.name}.".startswith(f"{prefix}.") for prefix in prefixes)]


def step_case(name: str, recipe: str, tokens: int, *more: str, world_size: int = 1) -> Case:
    """A case that times training steps."""
    return Case(
        name=name,
        script="gpu_step.py",
        arguments=("--recipe", recipe, "--tokens", str(tokens), *more),
        dataset="sp8192" if recipe == RECORD_1855 else "sp1024",
        world_size=world_size,
    )


def step_cases() -> list[Case]:
    """Training steps of three shapes, checked against float32; of the first also its kernels."""
    loops = ("--at", BEFORE_LOOP, IN_LOOP)
    return [
        step_case("steps.naive_524288", NAIVE, LARGE_BATCH, "--check", "--profile"),
        step_case("steps.naive_131072", NAIVE, PROXY_BATCH, "--check"),
        step_case("steps.414_131072", RECORD_414, PROXY_BATCH, "--check"),
        step_case("steps.1855_131072", RECORD_1855, PROXY_BATCH, "--check", *loops),
    ]


def sliding_case() -> Case:
    """Scoring the whole validation split with stride 64."""
    arguments = ("--recipe", NAIVE, "--tokens", str(PROXY_BATCH))
    return Case(name="sliding.naive", script="gpu_sliding.py", arguments=arguments, dataset="sp1024")


def start_cases() -> list[Case]:
    """From a process's start to its first timed step."""
    return [
        Case(
            name=f"start.{recipe}",
            script="gpu_start.py",
            arguments=("--recipe", recipe, "--tokens", str(PROXY_BATCH)),
            dataset=dataset,
            limit_seconds=500.0,  # two or three runs
        )
        for recipe, dataset in ((NAIVE, "sp1024"), ("pr163", "sp1024"), (RECORD_1855, "sp8192"))
    ]


def share_case(runs: str, num_gpus: int) -> Case:
    """How much of a finished study's time its GPUs trained."""
    return Case(name="share.study", script="gpu_share.py", arguments=(runs, "--gpus", str(max(1, num_gpus))))


def scaling_cases(num_gpus: int) -> list[Case]:
    """The large step on 1, 2, 4 and 8 GPUs; where fewer are there, also what one of 8 would have to do."""
    worlds = [size for size in WORLD_SIZES if size <= (num_gpus or 2)]
    cases = [step_case(scaling_name(num_gpus, w), NAIVE, LARGE_BATCH, world_size=w) for w in worlds]
    if num_gpus < WORLD_SIZES[-1]:
        cases.append(step_case(scaling_name(num_gpus, "eighth"), NAIVE, LARGE_BATCH // WORLD_SIZES[-1]))
    return cases


def scaling_name(num_gpus: int, which: int | str) -> str:
    """The name holds the machine's GPUs, so that figures of two kinds of machines stand side by side."""
    return f"scaling.{num_gpus}gpus.{which}"


def path_cases() -> list[Case]:
    """Steps with all fast paths, with all less one, and with none."""
    variants = {"all": (), "none": ("--without", *PATHS), **{f"no_{path}": ("--without", path) for path in PATHS}}
    return [
        step_case(f"paths.{recipe}.{variant}", recipe, PROXY_BATCH, *arguments, *at)
        for recipe, at in ((NAIVE, ()), (RECORD_1855, ("--at", BEFORE_LOOP, IN_LOOP)))
        for variant, arguments in variants.items()
    ]
