"""Artifact bytes before training: from shapes, bits, clip and how far the weights will have grown.

A row of Gaussian weights of standard deviation s, rounded in steps of d, carries log2(4.133 s / d) bits a weight. Where
d follows the row (its maximum or its deviation) that is a constant; with the scale floor d is at least 1 / q_max, and
the bytes depend on s, hence on the training: see search.growth.

Seen: within 2 % of the published files of the naive baseline, the four seed systems and five records; runs of a few
hundred steps are up to 7 % smaller than predicted (record 1218; docs/recipes.md has ten), since their rows have not yet
become Gaussian. On the quickstart's shape 4 % too low after 24 steps, 1 to 2 % after 96.
"""

import heapq
import math
from functools import lru_cache
from itertools import groupby

from search.coding import STEP_BYTES, code_bits, code_entropy, float_bytes, sigmas_of
from search.flops import tokens_per_flop
from search.growth import std_of
from search.shapes import NamedShape, shapes_of
from trainer.config import Budget, Recipe
from trainer.roles import Role, layer_of, role_of, stored_bits
from trainer.store_config import ClipRule, Compressor, Layout, LqerConfig, QuantConfig

# Of one H100 in this trainer: the naive baseline's 131,072 tokens in 69.6 ms. Larger models come to a little more.
FLOPS_PER_SECOND = 2.45e14
# What BEST comes to; its other candidates are larger.
BEST_CANDIDATES = ((Compressor.RANS, Layout.PLAIN), (Compressor.BROTLI, Layout.SHUFFLED))
LEFT_BITS, RIGHT_BITS = 2, 4  # a number of a correction's two factors
ORDERED = ("tok_emb", "attn.c_q.weight", "mlp.fc.weight")  # matrices whose rows GROUPED puts in another order
ORDER_BYTES = 2  # a row


def expected_steps(recipe: Recipe, budget: Budget) -> int:
    """Optimizer steps of a run; for a budget in seconds, about those that H100s make in them."""
    tokens = budget.train_tokens
    if tokens is None:
        tokens = (budget.train_seconds or 0) * budget.world_size * FLOPS_PER_SECOND * tokens_per_flop(recipe)
    return max(1, math.ceil(tokens / recipe.schedule.train_batch_tokens))


def full_run_steps(recipe: Recipe) -> int:
    """Optimizer steps of the challenge's full run."""
    return expected_steps(recipe, Budget(train_seconds=600, world_size=8))


def predicted_bytes(recipe: Recipe, code_bytes: int, steps: int | None = None, factor: float = 1.0) -> int:
    """Bytes of the artifact, code and weights, after so many optimizer steps; None means a full run's.

    Where the recipe has a target, no more than that: codes are set to zero until it is met.

    Args:
        factor: what the predicted bytes of the weights are multiplied with.
    """
    total = code_bytes + round(factor * predicted_weight_bytes(recipe, steps))
    target = recipe.quant.target_bytes
    return total if target is None else min(total, target)


@lru_cache(maxsize=4096)
def predicted_weight_bytes(recipe: Recipe, steps: int | None = None) -> int:
    """Bytes of the weight file after so many optimizer steps, before any target; None means a full run's."""
    count = full_run_steps(recipe) if steps is None else steps
    is_best = recipe.compressor is Compressor.BEST
    candidates = BEST_CANDIDATES if is_best else ((recipe.compressor, recipe.layout),)
    return round(min(_file_bytes(recipe, count, compressor, layout) for compressor, layout in candidates))


def _file_bytes(recipe: Recipe, steps: int, compressor: Compressor, layout: Layout) -> float:
    """Bytes of the weight file by one compressor. Tensors alike in all layers are looked at once."""
    total = 0.0
    kinds = sorted((_kind(tensor, recipe), tensor.name, tensor) for tensor in shapes_of(recipe))
    for (_, bits, _), members in groupby(kinds, key=lambda item: item[0]):
        tensors = [tensor for _, _, tensor in members]
        total += len(tensors) * _tensor_bytes(tensors[0], bits, recipe, steps, compressor, layout)
    return total + (_correction_bytes(recipe, recipe.quant.lqer, steps) if recipe.quant.lqer else 0.0)


def _kind(tensor: NamedShape, recipe: Recipe) -> tuple[str, int, tuple[int, ...]]:
    """What tensors of equal bytes share: the name without its layer, the bits, the shape."""
    bits = stored_bits(tensor.name, tensor.shape, recipe.quant, recipe.model.num_layers)
    name = tensor.name if layer_of(tensor.name) is None else tensor.name.split(".", 2)[2]
    return name, bits, tensor.shape


def _tensor_bytes(
    tensor: NamedShape, bits: int, recipe: Recipe, steps: int, compressor: Compressor, layout: Layout
) -> float:
    if bits >= 16:
        return tensor.numel * float_bytes(bits, compressor, layout)
    std_in_steps, is_floored = _std_in_steps(tensor, bits, recipe, steps)
    entropy = code_entropy(round(std_in_steps, 3), 2 ** (bits - 1) - 1, recipe.quant.prune_fraction)
    a_row = 0.0 if is_floored else STEP_BYTES[compressor]  # equal steps compress to nothing
    a_row += ORDER_BYTES if layout is Layout.GROUPED and tensor.name.endswith(ORDERED) else 0.0
    return tensor.numel * code_bits(entropy, bits, compressor, layout) / 8 + tensor.shape[0] * a_row


def _std_in_steps(tensor: NamedShape, bits: int, recipe: Recipe, steps: int) -> tuple[float, bool]:
    """Standard deviation of a tensor's codes, and whether the scale floor set their step."""
    quant, role, q_max = recipe.quant, role_of(tensor.name), 2 ** (bits - 1) - 1
    columns = tensor.shape[1]
    if role is Role.GATE:
        return q_max / sigmas_of(ClipRule.ROW_MAX, 0.0, columns, bits), False
    sigmas = sigmas_of(quant.clip, _given_sigmas(role, quant), columns, bits)
    if quant.scale_is_floored and (std := std_of(tensor, recipe, steps)) * sigmas < 1.0:
        return std * q_max, True
    return q_max / sigmas, False


def _given_sigmas(role: Role, quant: QuantConfig) -> float:
    own = {Role.MLP: quant.mlp_clip_sigmas, Role.TABLE: quant.embed_clip_sigmas}.get(role)
    return quant.clip_sigmas if own is None else own


def _correction_bytes(recipe: Recipe, lqer: LqerConfig, steps: int) -> float:
    """Bytes of the low-rank corrections, of the tensors with the largest rounding error."""
    errors: list[tuple[float, tuple[int, ...]]] = []
    for tensor in shapes_of(recipe):
        bits = stored_bits(tensor.name, tensor.shape, recipe.quant, recipe.model.num_layers)
        if bits < 16:
            step = std_of(tensor, recipe, steps) / max(_std_in_steps(tensor, bits, recipe, steps)[0], 1e-6)
            errors.append((tensor.numel * step**2, tensor.shape))
    total = 0.0
    for _, (rows, columns) in heapq.nlargest(lqer.num_tensors, errors):
        rank = min(lqer.rank, rows, columns)
        total += (rows * rank * LEFT_BITS + columns * rank * RIGHT_BITS) / 8
        total += 2 + 2 * math.ceil(rank * columns / lqer.group_size)
    return total
