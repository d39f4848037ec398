"""Artifact bytes before training: from shapes, bits, clip and how far the weights will have grown.

A row of Gaussian weights of standard deviation s, rounded in steps of d, carries log2(4.133 s / d) bits a weight. With
d = row maximum / q_max that is a constant of the row length (about 1 % from published models); with the scale floor
d is at least 1 / q_max, and the bytes depend on s, hence on the training. So s is modelled too: see weight_std.

Seen: within 1 % of published runs where the step follows the row, within 8 % where the floor acts, and 1 to 6 % too
low on the quickstart's runs of 24 to 96 steps. Give the steps of the rung that decides: undertrained weights are
smaller, which under the floor means fewer bytes.
"""

import math
import statistics
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from trainer.config import Budget, Recipe
from trainer.store_config import Compressor, QuantConfig
from trainer.train_config import OptimConfig, ScheduleConfig

# The naive baseline's published run: 13,780 steps of 524,288 tokens in 600 s on 8 H100.
FULL_RUN_TOKENS = 13_780 * 524_288
FULL_RUN_GPU_SECONDS = 8 * 600
BASELINE_PARAMETERS = 17_059_912

# A Muon step changes weights by DRIFT * lr / sqrt(columns) in the mean square, in a direction that persists for about
# PERSISTENCE steps. Fitted to three small runs (2 to 3 layers, width 64 and 128, up to 300 steps) and to 120 s of the
# naive baseline on one H100.
DRIFT = 0.6
PERSISTENCE = 50.0
EMBEDDING_DRIFT = 0.75  # the tied embedding under Adam: std = 0.75 * lr * sqrt(steps), same runs

# Bits a code above its entropy, by entropy: measured on 400,000 Gaussian codes, one a byte.
_ENTROPY = (0.0, 0.3, 1.0, 1.5, 2.1, 2.7, 3.2, 3.7, 4.2, 4.75, 5.3, 5.85, 6.4, 7.3)
_EXCESS = {
    Compressor.ZLIB: (0.0, 0.15, 0.30, 0.37, 0.45, 0.52, 0.57, 0.60, 0.58, 0.45, 0.25, 0.14, 0.08, 0.075),
    Compressor.LZMA: (0.0, 0.09, 0.22, 0.26, 0.32, 0.36, 0.17, 0.15, 0.15, 0.14, 0.14, 0.13, 0.13, 0.12),
    Compressor.ZSTD: (0.0, 0.12, 0.21, 0.19, 0.13, 0.07, 0.055, 0.04, 0.06, 0.05, 0.06, 0.065, 0.07, 0.07),
    Compressor.BROTLI: (0.0, 0.09, 0.34, 0.17, 0.115, 0.055, 0.045, 0.025, 0.05, 0.03, 0.04, 0.035, 0.035, 0.04),
}
# Bytes a compressed fp16 weight, fp16 row scale (of 2) and fp32 control number (of 4), likewise.
_FP16_BYTES = {Compressor.ZLIB: 1.84, Compressor.LZMA: 1.79, Compressor.ZSTD: 1.84, Compressor.BROTLI: 1.76}
_SCALE_BYTES = {Compressor.ZLIB: 1.5, Compressor.LZMA: 1.35, Compressor.ZSTD: 1.45, Compressor.BROTLI: 1.3}
_CONTROL_BYTES = {Compressor.ZLIB: 3.4, Compressor.LZMA: 3.05, Compressor.ZSTD: 3.4, Compressor.BROTLI: 3.25}


class Role(Enum):
    """What a tensor is; decides its format and how its weights grow."""

    EMBEDDING = auto()
    INPUT_MATRIX = auto()  # starts uniform in +-1/sqrt(columns)
    OUTPUT_MATRIX = auto()  # starts at zero
    CONTROL = auto()  # vectors and scalars, stored as fp32


@dataclass(frozen=True, slots=True)
class TensorShape:
    """count tensors of one shape and role."""

    role: Role
    rows: int
    columns: int
    count: int

    @property
    def numel(self) -> int:
        """Numbers in one tensor."""
        return self.rows * self.columns


def tensors_of(recipe: Recipe) -> tuple[TensorShape, ...]:
    """Every trained tensor of the recipe's model."""
    model = recipe.model
    dim, layers, kv_dim = model.model_dim, model.num_layers, model.num_kv_heads * model.head_dim
    return (
        TensorShape(Role.EMBEDDING, model.vocab_size, dim, 1),
        TensorShape(Role.INPUT_MATRIX, dim, dim, layers),  # c_q
        TensorShape(Role.INPUT_MATRIX, kv_dim, dim, 2 * layers),  # c_k, c_v
        TensorShape(Role.OUTPUT_MATRIX, dim, dim, layers),  # attention's proj
        TensorShape(Role.INPUT_MATRIX, model.mlp_dim, dim, layers),  # fc
        TensorShape(Role.OUTPUT_MATRIX, dim, model.mlp_dim, layers),  # the MLP's proj
        TensorShape(Role.CONTROL, 1, model.num_heads, layers),  # q_gain
        TensorShape(Role.CONTROL, 4, dim, layers),  # attn_scale, mlp_scale, two of resid_mix
        TensorShape(Role.CONTROL, layers // 2, dim, 1),  # skip_weights
    )


def num_parameters(recipe: Recipe) -> int:
    """Trained numbers of the recipe's model."""
    return sum(tensor.numel * tensor.count for tensor in tensors_of(recipe))


def expected_steps(recipe: Recipe, budget: Budget) -> int:
    """Optimizer steps of a run; for a budget in seconds, those of H100s at the published baseline's speed."""
    tokens = budget.train_tokens
    if tokens is None:
        share = (budget.train_seconds or 0) * budget.world_size / FULL_RUN_GPU_SECONDS
        tokens = FULL_RUN_TOKENS * share * BASELINE_PARAMETERS / num_parameters(recipe)
    return max(1, math.ceil(tokens / recipe.schedule.train_batch_tokens))


def full_run_steps(recipe: Recipe) -> int:
    """Optimizer steps of the challenge's full run."""
    return expected_steps(recipe, Budget(train_seconds=600, world_size=8))


def weight_std(columns: int, initial_std: float, optim: OptimConfig, schedule: ScheduleConfig, steps: int) -> float:
    """Standard deviation of a Muon matrix after training.

    Each step has a known size, for Muon's update is orthogonal; how much of it adds up is a random walk whose
    direction persists a while, pulled back by weight decay: dv/dt = 2 c(t) - 2 decay v for the variance v, c the
    correlation of weight and step. Solved piecewise over the schedule.
    """
    pieces = min(steps, 200)
    piece_steps, variance = steps / pieces, initial_std**2
    for piece in range(pieces):
        progress = (piece + 0.5) / pieces
        warmdown = (1 - progress) / schedule.warmdown_fraction if schedule.warmdown_fraction else 1.0
        lr = optim.matrix_lr * max(min(warmdown, 1.0), schedule.lr_floor)
        decay = lr * optim.muon_weight_decay
        rate = decay + 1 / PERSISTENCE
        correlation = (DRIFT * lr) ** 2 / columns / rate * -math.expm1(-rate * progress * steps)
        kept = math.exp(-2 * decay * piece_steps)
        growth = (1 - kept) / decay if decay * piece_steps > 1e-9 else 2 * piece_steps
        variance = variance * kept + correlation * growth
    return math.sqrt(variance)


def _std_of(tensor: TensorShape, recipe: Recipe, steps: int) -> float:
    if tensor.role is Role.EMBEDDING:
        share_at_full_lr = 1 - recipe.schedule.warmdown_fraction / 2
        growth = EMBEDDING_DRIFT * recipe.optim.embed_lr * math.sqrt(steps * share_at_full_lr)
        return math.hypot(recipe.model.embed_init_std, growth)
    initial = 0.0 if tensor.role is Role.OUTPUT_MATRIX else 1 / math.sqrt(3 * tensor.columns)
    return weight_std(tensor.columns, initial, recipe.optim, recipe.schedule, steps)


def row_maximum(columns: int) -> float:
    """Expected largest magnitude of so many standard Gaussian weights."""
    return statistics.NormalDist().inv_cdf(1 - 0.5 * math.exp(-np.euler_gamma) / columns) if columns > 1 else 0.7


def code_entropy(std_in_steps: float, q_max: int) -> float:
    """Bits a code of Gaussian weights rounded to whole steps and clipped at q_max."""
    edges = (np.arange(q_max) + 0.5) / max(std_in_steps, 1e-6)
    upper = np.array([math.erfc(edge / math.sqrt(2)) / 2 for edge in edges])  # mass above each edge
    masses = np.append(upper[:-1] - upper[1:], upper[-1])  # codes 1 to q_max
    masses = np.concatenate(([1 - 2 * upper[0]], masses, masses))
    masses = masses[masses > 0]
    return float(-(masses * np.log2(masses)).sum())


def _bits_of(tensor: TensorShape, quant: QuantConfig) -> int | None:
    """Bits of a tensor's codes; None where it is stored as fp16."""
    bits = quant.embed_bits if tensor.role is Role.EMBEDDING else quant.matrix_bits
    return None if bits == 16 or tensor.numel <= quant.passthrough_numel else bits


def _tensor_bytes(tensor: TensorShape, recipe: Recipe, steps: int) -> float:
    compressor = recipe.compressor
    if tensor.role is Role.CONTROL:
        return tensor.numel * _CONTROL_BYTES[compressor]
    bits = _bits_of(tensor, recipe.quant)
    if bits is None:
        return tensor.numel * _FP16_BYTES[compressor]
    q_max = 2 ** (bits - 1) - 1
    std = _std_of(tensor, recipe, steps)
    largest = std * row_maximum(tensor.columns)
    is_floored = recipe.quant.scale_is_floored and largest < 1.0
    entropy = code_entropy(std * q_max / (1.0 if is_floored else largest), q_max)
    excess = float(np.interp(entropy, _ENTROPY, _EXCESS[compressor]))
    scales = 0.0 if is_floored else tensor.rows * _SCALE_BYTES[compressor]  # equal scales compress to nothing
    return tensor.numel * (entropy + excess) / 8 + scales


def predicted_weight_bytes(recipe: Recipe, steps: int | None = None) -> int:
    """Bytes of the weight file after so many optimizer steps; None means a full run's."""
    count = full_run_steps(recipe) if steps is None else steps
    return round(sum(tensor.count * _tensor_bytes(tensor, recipe, count) for tensor in tensors_of(recipe)))


def predicted_bytes(recipe: Recipe, code_bytes: int, steps: int | None = None) -> int:
    """Bytes of the artifact, code and weights, after so many optimizer steps; None means a full run's."""
    return code_bytes + predicted_weight_bytes(recipe, steps)
