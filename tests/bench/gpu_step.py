"""Measures training steps with each fast path: python tests/bench/gpu_step.py --data DATA --out steps.txt.

DATA holds sp1024 and sp8192 as build_shards.py makes them. One process; each case is a recipe and a set of fast paths,
built and compiled once and timed on all of the recipe's workloads. The most valuable cases come first, so that the
script may be ended at any time; a case that fails is a line, and the rest go on. On a CPU: --tiny, where kernels need
TRITON_INTERPRET=1 and an installed Triton.

    --only naive:all naive:none     these cases, in this order
    --tiles                         the MLP kernels' tiles first, against cuBLAS with the activation between
    --no-check, --no-profile        without the comparison with float32, without tables of kernels
"""

import argparse
import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from kernel_tiles import time_tiles
from step_checks import References, gradient_errors, perturb
from tiny_recipes import shrink

from spaces.recipes import named_recipe
from trainer.batched import copy_all
from trainer.environment import Environment, open_environment
from trainer.events import Event
from trainer.fast import FastPaths, fast_paths_of
from trainer.loop import MICRO_BATCH_TOKENS, Trainer
from trainer.model import Gpt, new_model
from trainer.schedule import learning_rate_scale, momentum_at, variant_at

WARM_STEPS, TIMED_STEPS = 3, 10
# Of each recipe: name, tokens a step, progress.
WORKLOADS = {
    "naive": ("naive_baseline", ((131_072, 0.1), (524_288, 0.1))),
    "414": ("record_414", ((131_072, 0.1),)),
    "1855": ("record_1855", ((131_072, 0.1), (131_072, 0.5))),
}
EVERY = FastPaths(copies=True, mlp=True, mix=True, gain=True, losses=True, muon=True)
VARIANTS = {
    "none": FastPaths(),
    "copies": FastPaths(copies=True),
    "mlp": FastPaths(copies=True, mlp=True),
    "mix": FastPaths(mix=True),
    "gain": FastPaths(gain=True),
    "losses": FastPaths(losses=True),
    "muon": FastPaths(muon=True),
    "all": EVERY,
    "large": EVERY,  # with micro-batches of twice the tokens
    "no_mlp": dataclasses.replace(EVERY, mlp=False),
    "no_mix": dataclasses.replace(EVERY, mix=False),
    "no_losses": dataclasses.replace(EVERY, losses=False),
}
CASES = (
    *("naive:all", "naive:none", "414:all", "1855:all", "naive:no_mlp", "naive:no_mix", "naive:copies", "414:none"),
    *("1855:none", "naive:large", "414:no_mlp", "1855:no_losses", "naive:muon", "naive:gain", "naive:losses"),
    *("naive:mix", "naive:mlp"),
)


class Report:
    """Lines that are printed and written at once, so that a cut-off run leaves what it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("", encoding="utf-8")

    def add(self, line: str) -> None:
        """One more line."""
        print(line, flush=True)  # noqa: T201
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


class Case:
    """A recipe with some fast paths: one model, compiled once for all workloads."""

    def __init__(self, name: str, arguments: argparse.Namespace, report: Report, known: References) -> None:
        self.name, self.arguments, self.report, self.known = name, arguments, report, known
        self.recipe_name, self.variant = name.split(":")
        recipe_name, self.workloads = WORKLOADS[self.recipe_name]
        recipe = named_recipe(recipe_name)
        self.recipe = shrink(recipe) if arguments.tiny else recipe
        data = arguments.data / f"sp{self.recipe.model.vocab_size}"
        paths = {"DATA_PATH": str(data), "TOKENIZER_PATH": str(data / "tokenizer.model")}
        self.environment = open_environment({**os.environ, **paths})

    def run(self) -> None:
        """Measure and report."""
        torch.compiler.reset()
        model = new_model(self.recipe.model, self.environment.compute_dtype, 0).to(self.environment.device)
        perturb(model)
        model.take(VARIANTS[self.variant])
        if self.environment.is_compiled:
            model.compile_parts()
        initial = [parameter.detach().clone() for parameter in model.parameters()]
        for tokens, progress in self.workloads:
            with torch.no_grad():
                copy_all(list(model.parameters()), initial)
            self.measure(model, tokens, progress)

    def measure(self, model: Gpt, tokens: int, progress: float) -> None:
        """One workload: its line, the check against float32 and the table of kernels."""
        trainer = self.trainer(model, tokens)
        if self.environment.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        key = (self.recipe_name, progress, trainer.micro_sequences)
        is_new = (tokens, progress) == self.workloads[0] or progress != self.workloads[0][1]
        is_checked = is_new and not self.arguments.no_check
        check = gradient_errors(trainer, progress, self.known, key) if is_checked else ""
        for _ in range(1 if self.arguments.tiny else WARM_STEPS):
            step(trainer, progress)
        self.environment.synchronize()
        warm_seconds = time.perf_counter() - start
        whole, passes, optimizer, host = timings(trainer, progress, 2 if self.arguments.tiny else TIMED_STEPS)
        self.report.add(
            f"{self.name:14} {tokens:7,} tokens at {progress:.1f}: {whole:8.2f} ms/step, passes {passes:8.2f}, "
            f"optimizer {optimizer:6.2f}, host {host:8.2f}, {tokens / whole * 1e-3:6.3f} M tokens/s, "
            f"peak {peak_mebibytes(self.environment):7,.0f} MiB, compiled and warm after {warm_seconds:5.1f} s{check}"
        )
        is_last = (tokens, progress) == self.workloads[-1]
        if is_last and self.variant in ("none", "all") and not self.arguments.no_profile:
            self.report.add(table_of_kernels(lambda: step(trainer, progress), self.environment))

    def trainer(self, model: Gpt, tokens: int) -> Trainer:
        """A trainer of the model at a batch size; micro-batches and so graphs are those of the one before."""
        sequence = self.recipe.schedule.train_seq_len
        batch = 2 * sequence if self.arguments.tiny else tokens
        schedule = dataclasses.replace(self.recipe.schedule, train_batch_tokens=batch)
        trainer = Trainer(model, dataclasses.replace(self.recipe, schedule=schedule), self.environment, discard)
        factor = 2 if self.variant == "large" else 1
        trainer.micro_sequences = 1 if self.arguments.tiny else factor * MICRO_BATCH_TOKENS // sequence
        return trainer


def discard(event: Event) -> None:
    """Print nothing of the run."""


def step(trainer: Trainer, progress: float) -> None:
    """A step as training makes it."""
    for _ in parts_of_step(trainer, progress):
        pass


def parts_of_step(trainer: Trainer, progress: float) -> Iterator[None]:
    """The same, in two parts: passes, then the optimizer."""
    trainer.optimizer.zero_grad()
    ids_BT, targets_BT = trainer.loader.next_batch()
    loss = trainer.accumulate(ids_BT, targets_BT, variant_at(progress, trainer.recipe))
    assert loss is not None, "a micro-batch does not fit the device's memory"
    yield
    recipe = trainer.recipe
    trainer.optimizer.step(learning_rate_scale(progress, recipe.schedule), momentum_at(progress, recipe.optim))
    yield


def timings(trainer: Trainer, progress: float, num_steps: int) -> tuple[float, float, float, float]:
    """Median milliseconds of a step, its passes, its optimizer and the host's part of a step."""
    environment = trainer.environment
    marks, hosts = [Mark(environment)], list[float]()
    for _ in range(num_steps):
        started = time.perf_counter()
        for _ in parts_of_step(trainer, progress):
            marks.append(Mark(environment))
        hosts.append(1000 * (time.perf_counter() - started))
    environment.synchronize()
    halves = [first.until(second) for first, second in pairwise(marks)]
    passes, optimizer = halves[0::2], halves[1::2]
    whole = [one + other for one, other in zip(passes, optimizer, strict=True)]
    # Once the queue of launches is full the host waits for the device: the least is what it needs itself.
    return median(whole), median(passes), median(optimizer), min(hosts)


class Mark:
    """A moment of the device."""

    def __init__(self, environment: Environment) -> None:
        self.event = torch.cuda.Event(enable_timing=True) if environment.device.type == "cuda" else None
        self.seconds = time.perf_counter()
        if self.event is not None:
            self.event.record()

    def until(self, later: "Mark") -> float:
        """Milliseconds from here to a later one, both past."""
        if self.event is None or later.event is None:
            return 1000 * (later.seconds - self.seconds)
        return self.event.elapsed_time(later.event)


def table_of_kernels(function: Callable[[], None], environment: Environment) -> str:
    """The kernels that took longest in two calls of a function."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if environment.device.type == "cuda":
        activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        function()
        function()
        environment.synchronize()
    rows = sorted(profile.key_averages(), key=lambda row: -row.self_device_time_total)[:40]
    lines = [f"    {row.self_device_time_total / 2e3:9.3f} ms {row.count // 2:5} x {row.key[:110]}" for row in rows]
    return "    a step, by kernel:\n" + "\n".join(lines)


def peak_mebibytes(environment: Environment) -> float:
    """Most memory of the device so far."""
    return torch.cuda.max_memory_allocated() / 2**20 if environment.device.type == "cuda" else 0.0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets sp1024 and sp8192")
    parser.add_argument("--out", type=Path, required=True, help="the text file to write")
    parser.add_argument("--only", nargs="+", default=CASES, metavar="RECIPE:VARIANT", help="these cases")
    parser.add_argument("--tiles", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a trial of this command")
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--no-profile", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run all cases."""
    arguments = parse_arguments()
    report, known, start = Report(arguments.out), References(), time.perf_counter()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    default = fast_paths_of(torch.device("cuda" if torch.cuda.is_available() else "cpu"), torch.bfloat16)
    report.add(f"{device}, torch {torch.__version__}, fast paths by default: {', '.join(default.named) or 'none'}")
    jobs = [lambda: time_tiles(report.add, arguments.tiny)] if arguments.tiles else list[Callable[[], None]]()
    for name in ("tiles", *arguments.only) if jobs else arguments.only:
        try:
            if name == "tiles":
                jobs[0]()
            else:
                Case(name, arguments, report, known).run()
        except Exception as error:  # noqa: BLE001 - one case's failure is a line, whatever it is
            traceback.print_exc()
            report.add(f"{name:14} failed: {type(error).__name__}: {str(error).splitlines()[:1]}")
        report.add(f"    {time.perf_counter() - start:.0f} s since the start")


if __name__ == "__main__":
    main()
