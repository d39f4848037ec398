"""Bytes and seconds of every compressor and layout: python tests/bench/compressors.py WEIGHTS.pt [--only rans,best].

WEIGHTS.pt is a dict of float tensors by name, or the word gaussian: matrices of a record's shapes with rows and columns
of different spread. They are quantized as the late records do: 6 bits clipped at 12.85 standard deviations, tables at
7 and 15.
"""

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.codec import decode, encode, payload_size
from trainer.quantize import StoredTensor, quantize
from trainer.store_config import ClipRule, Compressor, Layout, QuantConfig

CONFIG = QuantConfig(
    matrix_bits=6,
    embed_bits=7,
    clip=ClipRule.SIGMA,
    clip_sigmas=12.85,
    embed_clip_sigmas=15.0,
    scale_is_floored=False,
    passthrough_numel=8192,
    control_bits=16,
)


def gaussian_weights(num_layers: int) -> dict[str, Tensor]:
    """Matrices of width 512 and vocabulary 8192: 11 layers have 36 million weights, 4 have 16 million."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"tok_emb": (8192, 512)}
    for layer in range(num_layers):
        for name, shape in {
            "attn.c_q": (512, 512),
            "attn.c_k": (256, 512),
            "attn.c_v": (256, 512),
            "attn.proj": (512, 512),
            "mlp.fc": (2048, 512),
            "mlp.proj": (512, 2048),
        }.items():
            shapes[f"blocks.{layer}.{name}.weight"] = shape
    weights: dict[str, Tensor] = {}
    for name, (rows, columns) in shapes.items():
        spread_R1 = (0.2 * torch.randn(rows, 1, generator=generator)).exp()
        spread_C = (0.2 * torch.randn(columns, generator=generator)).exp()
        weights[name] = 0.05 * spread_R1 * spread_C * torch.randn(rows, columns, generator=generator)
    return weights


def entropy_bytes(stored: dict[str, StoredTensor], is_by_row: bool) -> float:
    """Bytes of an ideal coder with a table for each matrix, or for each row; the tables are not counted."""
    bits = 0.0
    for tensor in stored.values():
        if tensor.scale_R.numel():
            codes_RC = tensor.values.numpy().astype(np.int64) + 128
            tables_R = np.arange(len(codes_RC))[:, None] * is_by_row
            count = np.bincount((tables_R * 256 + codes_RC).ravel(), minlength=256 * len(codes_RC)).reshape(-1, 256)
            share = count / count.sum(axis=1, keepdims=True).clip(1)
            bits -= float((count * np.log2(share, where=count > 0, out=np.zeros(count.shape))).sum())
    return bits / 8


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", help="a .pt file, or gaussian")
    parser.add_argument("--layers", type=int, default=11, help="of gaussian weights")
    parser.add_argument("--only", default=",".join(Compressor), help="compressors, with commas between")
    arguments = parser.parse_args()
    is_made = arguments.weights == "gaussian"
    weights = gaussian_weights(arguments.layers) if is_made else torch.load(Path(arguments.weights))
    layers = 1 + max((int(name.split(".")[1]) for name in weights if name.startswith("blocks.")), default=0)
    stored = quantize(weights, CONFIG, layers, None)
    shapes = {name: weight.shape for name, weight in weights.items()}
    size = payload_size(stored, CONFIG, layers)
    by_matrix, by_row = (entropy_bytes(stored, is_by_row) for is_by_row in (False, True))
    print(f"payload {size:,}; entropy of codes by matrix {by_matrix:,.0f}, by row {by_row:,.0f}")  # noqa: T201
    for name, layout in product(arguments.only.split(","), Layout):
        compressor = Compressor(name)
        if compressor in {Compressor.RANS, Compressor.BEST} and layout is not Layout.PLAIN:
            continue
        start = time.perf_counter()
        data = encode(stored, CONFIG, layers, compressor, layout)
        middle = time.perf_counter()
        decode(data, shapes, CONFIG, layers, compressor, layout)
        seconds = time.perf_counter() - middle
        print(f"{name:6} {layout:8} {len(data):12,} {middle - start:7.1f} s to encode {seconds:5.1f} s to decode")  # noqa: T201


if __name__ == "__main__":
    main()
