"""Times the squared MLP's kernels at several tiles, next to cuBLAS with the activation as a kernel between."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

import trainer.fused_mlp

TILES = ((128, 256, 64, 8, 3), (128, 256, 64, 8, 4), (256, 128, 64, 8, 3), (128, 128, 64, 4, 3), (128, 256, 32, 8, 4))
SHAPES = ((65_536, 512, 1024, 0.0), (65_536, 512, 1536, 0.0), (65_536, 512, 2048, 0.5))
REPEATS = 10


def time_tiles(add: Callable[[str], None], is_tiny: bool) -> None:
    """Add a line for each shape and tile."""
    before = trainer.fused_mlp.MLP_TILE
    for tokens, inputs, hidden, slope in ((256, 64, 128, 0.5),) if is_tiny else SHAPES:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float16
        x, g = (torch.randn(tokens, inputs, device=device, dtype=dtype) for _ in range(2))
        up = (torch.randn(hidden, inputs, device=device) / inputs**0.5).to(dtype)
        down = up.mT.contiguous()
        add(f"squared MLP, {tokens} tokens, {inputs} to {hidden}, slope {slope}, its hidden layer both ways")
        exponent = 4e-9 * tokens * inputs * hidden
        seconds = milliseconds(lambda x=x, g=g, up=up, down=down: (x @ up.mT, g @ down))
        add(f"    cuBLAS, products alone      {seconds:7.3f} ms {exponent / seconds:6.0f} TFLOP/s")
        if device.type == "cuda":
            plain = torch.compile(plain_pair, dynamic=False)
            seconds = milliseconds(
                lambda plain=plain, x=x, g=g, up=up, down=down, slope=slope: plain(x, up, g, down, slope)
            )
            add(f"    cuBLAS, with the activation {seconds:7.3f} ms {exponent / seconds:6.0f} TFLOP/s")
        for tile in TILES[:1] if is_tiny else TILES:
            trainer.fused_mlp.MLP_TILE = tile
            try:
                seconds = milliseconds(lambda x=x, g=g, up=up, down=down, slope=slope: pair(x, up, g, down, slope))
                add(f"    {tile!s:27} {seconds:7.3f} ms {exponent / seconds:6.0f} TFLOP/s")
            except Exception as error:  # noqa: BLE001 - one tile's failure is a line
                add(f"    {tile} failed: {type(error).__name__}: {str(error)[:200]}")
    trainer.fused_mlp.MLP_TILE = before


def pair(x: Tensor, up: Tensor, g: Tensor, down: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """The fused kernels, forward and backward."""
    activated, hidden = trainer.fused_mlp.squared_up(x, up, slope)
    return activated, trainer.fused_mlp.squared_back(g, down, hidden if slope else activated, slope)


def plain_pair(x: Tensor, up: Tensor, g: Tensor, down: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """The same by products and what lies between."""
    hidden = x @ up.mT
    active = torch.nn.functional.leaky_relu(hidden, slope)
    return active.square(), (g @ down) * 2.0 * active * torch.where(hidden > 0, 1.0, slope)


def milliseconds(function: Callable[[], object]) -> float:
    """The median of some calls, after three."""
    is_cuda = torch.cuda.is_available()
    times: list[float] = []
    for index in range(3 + REPEATS):
        if is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if is_cuda:
            torch.cuda.synchronize()
        if index >= 3:
            times.append(1000 * (time.perf_counter() - start))
    return median(times)
