"""Times the squared MLP's two products, cut in several ways: PYTHONPATH=.:tests python tests/bench/mlp_tiles.py.

Next to them cuBLAS, alone and with what lies between its products, compiled. Every candidate's numbers are checked; one
that fails is a line. On a CPU, with TRITON_INTERPRET=1, a trial of this command at a small size.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor

from trainer.fused_mlp import BACK_TILE, UP_TILE, MlpTile, squared_back_by, squared_up_by

IS_CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if IS_CUDA else "cpu")
HALF = torch.bfloat16 if IS_CUDA else torch.float16  # the interpreter multiplies matrices of bfloat16 wrongly
# Tokens, units, slope.
CASES = [
    (tokens, hidden, slope)
    for tokens in (65_536, 131_072)
    for hidden, slope in ((1024, 0.0), (1536, 0.0), (2048, 0.5))
] if IS_CUDA else [(300, 264, 0.0), (300, 264, 0.5)]  # fmt: skip
INPUTS = 512 if IS_CUDA else 64
BOTH_WAYS = (
    MlpTile(128, 128, 64, 4, 3),
    MlpTile(128, 256, 64, 8, 3, programs=1, parts=2, is_flat=True),
    MlpTile(128, 256, 64, 8, 4, programs=1, parts=2),
    MlpTile(256, 128, 64, 8, 3, programs=1, parts=2, is_flat=True),
    MlpTile(128, 128, 64, 4, 3, programs=2, parts=2),
    MlpTile(128, 128, 64, 4, 3, programs=2, parts=4, is_flat=True),
    MlpTile(128, 128, 64, 8, 4, programs=1, parts=1, is_flat=True),
)
UP_TILES = (
    MlpTile(*UP_TILE),
    *BOTH_WAYS,
    MlpTile(128, 256, 64, 8, 3, programs=1, parts=1, is_flat=True),
    MlpTile(128, 256, 64, 8, 4, programs=1, parts=2, is_flat=True),
)
BACK_TILES = (
    MlpTile(*BACK_TILE),
    *BOTH_WAYS,
    MlpTile(128, 256, 64, 8, 3, programs=1, parts=4, is_flat=True),
    MlpTile(128, 256, 64, 8, 4, programs=1, parts=4, is_flat=True),
)
CALLS, REPEATS = (10, 7) if IS_CUDA else (1, 1)
ALLOWED_ERROR = 0.01  # relative, of bfloat16 numbers next to others


@dataclass(frozen=True)
class Case:
    """Inputs of both products, and what they give."""

    slope: float
    x: Tensor
    up: Tensor
    g: Tensor
    down: Tensor
    kept: Tensor
    activated: Tensor
    gradient: Tensor

    @property
    def exponent(self) -> float:
        """Of one product: TFLOP times a second, by milliseconds."""
        return 2e-9 * self.x.numel() * len(self.up)


def new_case(tokens: int, hidden: int, slope: float) -> Case:
    """Random inputs with the plain form's results."""
    torch.manual_seed(0)
    x, g = (torch.randn(tokens, INPUTS, device=DEVICE, dtype=HALF) for _ in range(2))
    up = (torch.randn(hidden, INPUTS, device=DEVICE) / INPUTS**0.5).to(HALF)
    down = (torch.randn(INPUTS, hidden, device=DEVICE) / hidden**0.5).to(HALF)
    hidden_MN = x @ up.mT
    activated = plain_up(x, up, slope)
    kept, gradient = hidden_MN if slope else activated, plain_back(g, down, hidden_MN, slope)
    return Case(slope, x, up, g, down, kept, activated, gradient)


def plain_up(x: Tensor, up: Tensor, slope: float) -> Tensor:
    """By a product and what follows."""
    return torch.nn.functional.leaky_relu(x @ up.mT, slope).square()


def plain_back(g: Tensor, down: Tensor, hidden: Tensor, slope: float) -> Tensor:
    """By a product and what follows."""
    derivative = 2 * torch.where(hidden > 0, hidden, slope * slope * hidden)
    return (g @ down) * derivative


def tell(text: str) -> None:
    """At once: a kernel that never ends hides no line before it."""
    print(text, flush=True)  # noqa: T201


def milliseconds(function: Callable[[], object]) -> float:
    """The median of some calls, without the host's work where there is a GPU."""
    function()
    if not IS_CUDA:
        start = time.perf_counter()
        function()
        return 1000 * (time.perf_counter() - start)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            function()
    times = list[float]()
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / CALLS)
    return median(times)


def time_one(name: str, case: Case, function: Callable[[], Tensor], wanted: Tensor | None) -> None:
    """Tell a candidate's speed, and its error if it has one to be held against."""
    try:
        note = ""
        if wanted is not None:
            # What the result is written to held the last candidate's.
            _ = [torch.full_like(wanted, float("nan")) for _ in range(2)]
            del _
            error = float((function().float() - wanted.float()).norm() / wanted.float().norm())
            note = f"error {error:.1e}" + ("" if error < ALLOWED_ERROR else "  WRONG")
        time_ms = milliseconds(function)
        tell(f"    {name:76} {time_ms:7.4f} ms {case.exponent / time_ms:5.0f} TFLOP/s  {note}")
    except Exception as error:  # noqa: BLE001 - one candidate's failure is a line
        tell(f"    {name} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def tile_name(tile: MlpTile) -> str:
    """Short."""
    way = f"{tile.programs} programs, {tile.parts} parts{', flat' * tile.is_flat}" if tile.programs else "no loop"
    return f"{tile.rows} x {tile.columns} x {tile.depth}, {tile.warps} warps, {tile.stages} stages, {way}"


def up_by(case: Case, tile: MlpTile) -> Tensor:
    """What the next product reads."""
    return squared_up_by(tile, case.x, case.up, case.slope)[0]


def back_by(case: Case, tile: MlpTile) -> Tensor:
    """The hidden layer's gradient."""
    return squared_back_by(tile, case.g, case.down, case.kept, case.slope)


def compile_all(cases: Iterable[Case]) -> None:
    """Compile every kernel, several at once; one that fails does so again when it is timed."""
    with ThreadPoolExecutor(16) as pool:
        for case in cases:
            jobs = [pool.submit(up_by, case, tile) for tile in UP_TILES]
            jobs += [pool.submit(back_by, case, tile) for tile in BACK_TILES]
            _ = [job.exception() for job in jobs]
    if IS_CUDA:
        torch.cuda.synchronize()


def time_tiles(case: Case) -> None:
    """Products alone, then every tile."""
    time_one("up, cuBLAS alone", case, lambda: case.x @ case.up.mT, None)
    for tile in UP_TILES:
        time_one("up, " + tile_name(tile), case, partial(up_by, case, tile), case.activated)
    time_one("back, cuBLAS alone", case, lambda: case.g @ case.down, None)
    for tile in BACK_TILES:
        time_one("back, " + tile_name(tile), case, partial(back_by, case, tile), case.gradient)


def time_compiled(case: Case) -> None:
    """The plain form as torch compiles it."""
    up, back = torch.compile(plain_up, dynamic=True), torch.compile(plain_back, dynamic=True)
    hidden = case.x @ case.up.mT
    time_one("up, compiled", case, lambda: up(case.x, case.up, case.slope), case.activated)
    time_one("back, compiled", case, lambda: back(case.g, case.down, hidden, case.slope), case.gradient)


def time_stationary(case: Case) -> None:
    """The candidate that keeps its weight in shared memory; last, since it is the likeliest to hang."""
    from mlp_stationary import stationary

    for groups in (3, 2):
        name = f"weight in shared memory, {groups} groups"
        time_one(
            "up, " + name, case, lambda n=groups: stationary(case.x, case.up, None, case.slope, n)[0], case.activated
        )
        time_one(
            "back, " + name,
            case,
            lambda n=groups: stationary(case.g, case.down, case.kept, case.slope, n)[0],
            case.gradient,
        )


def main() -> None:
    """All cases, by one way after another."""
    start = time.perf_counter()
    compile_all(new_case(*sizes) for sizes in CASES[:3])
    tell(f"compiled after {time.perf_counter() - start:.0f} s")
    for way in (time_tiles, time_compiled, time_stationary) if IS_CUDA else (time_tiles,):
        for tokens, hidden, slope in CASES:
            tell(f"{tokens:,} tokens, {INPUTS} to {hidden}, slope {slope}; at {time.perf_counter() - start:.0f} s")
            way(new_case(tokens, hidden, slope))


if __name__ == "__main__":
    main()
