"""Making a weight file small enough by zeroing codes of +-1, those that cost the least first. Source: PR 1019.

Shapes: R rows of one matrix, C columns, N rows of all matrices.
"""

from dataclasses import replace

import torch

from trainer.codec import PAIRS, encode
from trainer.quantize import StoredTensor
from trainer.store_config import Compressor, Layout, QuantConfig

MOST_ENCODES = 7
CLOSE_ENOUGH = 0.9995  # of the target: no further encoding for the last 0.05 %


def fit_to_target(
    stored: dict[str, StoredTensor],
    config: QuantConfig,
    num_layers: int,
    compressor: Compressor,
    layout: Layout,
    max_weight_bytes: int,
) -> dict[str, StoredTensor]:
    """The tensors with just so many codes of +-1 zeroed that their file has at most max_weight_bytes.

    With all of them zeroed where even that is too large. Four times as many until the file is small enough; then a line
    between the last one too large and the last small enough tells where to try next.
    """
    data = encode(stored, config, num_layers, compressor, layout)
    too_many, size = len(data) - max_weight_bytes, len(data)
    if too_many <= 0:
        return stored
    if compressor is Compressor.BEST:  # the pair that is best without pruning stands for all
        (compressor, layout), max_weight_bytes, size = PAIRS[data[0]], max_weight_bytes - 1, size - 1
    most = count_ones(stored)
    low, low_size, high, high_size, best = 0, size, most, 0, None
    count = 8 * too_many  # the first ones save about a bit each
    for left in reversed(range(MOST_ENCODES - 1)):
        count = most if best is None and left == 0 else min(count, most)
        tried = zero_cheapest(stored, count)
        size = len(encode(tried, config, num_layers, compressor, layout))
        if size <= max_weight_bytes:
            high, high_size, best = count, size, tried
        else:
            low, low_size = count, size
        if count == most and best is None:
            return tried
        if high - low < 2 or high_size >= CLOSE_ENOUGH * max_weight_bytes:
            break
        share = (low_size - max_weight_bytes) / (
            low_size - high_size
        ) + 0.02  # rather a little too small than too large
        count = 4 * count if best is None else low + round((high - low) * min(max(share, 0.1), 0.9))
    assert best is not None  # the last try zeroes them all
    return best


def count_ones(stored: dict[str, StoredTensor]) -> int:
    """How many codes are +-1."""
    return sum(int((tensor.values.abs() == 1).sum()) for tensor in stored.values() if tensor.scale_R.numel())


def zero_cheapest(stored: dict[str, StoredTensor], count: int) -> dict[str, StoredTensor]:
    """The tensors with that many codes of +-1 zeroed, in order of their row's scale; in a row, the first ones first.

    A code's cost is the square of its step, and steps are a row's.
    """
    names = [name for name, tensor in stored.items() if tensor.scale_R.numel()]
    is_one = {name: stored[name].values.abs() == 1 for name in names}
    ones_N = torch.cat([is_one[name].sum(dim=1).cpu() for name in names])
    order_N = torch.cat([stored[name].scale_R.float().cpu() for name in names]).argsort(stable=True)
    before_N = ones_N[order_N].cumsum(0) - ones_N[order_N]
    taken_N = torch.empty_like(ones_N)
    taken_N[order_N] = (count - before_N).clamp_min(0)
    pruned = dict(stored)
    for name, taken_R in zip(names, taken_N.split([len(is_one[name]) for name in names]), strict=True):
        is_taken_RC = is_one[name] & (is_one[name].cumsum(dim=1) <= taken_R.to(is_one[name].device)[:, None])
        pruned[name] = replace(stored[name], values=stored[name].values.masked_fill(is_taken_RC, 0))
    return pruned
