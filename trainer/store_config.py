"""How weights are stored: quantization and compression. Standard library only."""

from dataclasses import dataclass
from enum import StrEnum

from trainer.checks import require, require_fraction, require_not_negative, require_positive


class ClipRule(StrEnum):
    """Where a row of weights is clipped before it is rounded."""

    ROW_MAX = "row_max"  # the row's largest magnitude
    QUANTILE = "quantile"  # the row's 99.99984 % quantile of magnitudes (the challenge's baseline)
    MSE = "mse"  # the quantile of five with the least squared error (GPTQ-lite, PR 374)
    SIGMA = "sigma"  # so many standard deviations of the row (SDClip, PR 1394)
    HESSIAN_SIGMA = "hessian_sigma"  # the same, wider for rows that matter more to the loss (PR 1412)


class Compressor(StrEnum):
    """The compressor of the weight file, each at its strongest setting."""

    ZLIB = "zlib"
    LZMA = "lzma"
    ZSTD = "zstd"
    BROTLI = "brotli"
    RANS = "rans"  # our entropy coder: symbol statistics learned by row and column
    BEST = "best"  # whichever of the above makes the smallest file; its number is the file's first byte


class Layout(StrEnum):
    """How integers are laid out before a general-purpose compressor; RANS and BEST have their own."""

    PLAIN = "plain"  # one a byte
    PACKED = "packed"  # as many bits as they have, lowest first (PR 122)
    SHUFFLED = "shuffled"  # all even bytes, then all odd ones (PR 1218)
    GROUPED = "grouped"  # matrices by role, transposed, similar rows beside each other (PR 1855)


@dataclass(frozen=True, kw_only=True, slots=True)
class GptqConfig:
    """Rounding that makes up for each column's error in the columns after it (arXiv 2210.17323).

    Hessians come from training text, inside the time budget.

    Attributes:
        calibration_tokens: training tokens that Hessians are gathered over, all ranks together.
        damping: added to the Hessian's diagonal, as a share of its mean.
        rounds_embedding: whether the tied embedding is rounded so too, by the Hessian of final hidden states.
    """

    calibration_tokens: int = 1_048_576
    damping: float = 0.01
    rounds_embedding: bool = True

    def __post_init__(self) -> None:
        require_positive(quant__gptq__calibration_tokens=self.calibration_tokens, quant__gptq__damping=self.damping)


@dataclass(frozen=True, kw_only=True, slots=True)
class LqerConfig:
    """Low-rank correction of the tensors with the largest rounding error (arXiv 2402.02446, PR 1851).

    Attributes:
        rank: of the correction A B; A has 2 bits with one scale, B 4 bits with a scale a group.
        num_tensors: how many tensors get one, by the Frobenius norm of their error.
        group_size: numbers of B that share a scale.
    """

    rank: int = 4
    num_tensors: int = 3
    group_size: int = 64

    def __post_init__(self) -> None:
        require_positive(quant__lqer__rank=self.rank, quant__lqer__num_tensors=self.num_tensors)
        require_positive(quant__lqer__group_size=self.group_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerBitsConfig:
    """Other bits for the matrices of a run of layers (PR 340: the middle ones)."""

    first_layer: int = 3
    last_layer: int = 7
    bits: int = 6

    def __post_init__(self) -> None:
        first, last = self.first_layer, self.last_layer
        require(0 <= first <= last, "quant.layer_bits.first_layer", f"must be 0 to last_layer {last}", first)
        require(4 <= self.bits <= 8, "quant.layer_bits.bits", "must be 4 to 8", self.bits)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantConfig:
    """How weights are stored: rows of matrices as small integers with an fp16 scale a row.

    Attributes:
        matrix_bits: bits of block matrices, 4 to 8.
        mlp_bits: of MLP matrices where they differ; None takes matrix_bits.
        embed_bits: bits of the token tables (embedding, bigram, value), 4 to 8, or 16 for fp16.
        table_bits: of the bigram and value tables where they differ (PR 162); None takes embed_bits.
        clip: where rows are clipped.
        clip_sigmas: standard deviations that the two sigma rules clip at.
        mlp_clip_sigmas, embed_clip_sigmas: of MLP matrices and token tables where they differ; None takes clip_sigmas.
        hessian_clip: weight of a row's importance in the HESSIAN_SIGMA rule, in [0, 1].
        scale_is_floored: whether a row's step is at least 1 / q_max, as in the baseline: rows of small weights then use
            fewer levels, for fewer bytes and more error.
        passthrough_numel: float tensors of at most this many elements are stored as fp16, not quantized.
        control_bits: of vectors and scalars: 32 or 16.
        gate_bits: of attention gates: 16, or 8 with a scale a row (PR 1736).
        late_k_layers: last layers whose key matrix stays fp16 (PR 162).
        layer_bits: other bits for some layers; None for all alike.
        prune_fraction: share of each matrix's smallest weights set to zero before rounding (PR 180).
        target_bytes: artifact size to reach by zeroing codes of +-1, cheapest first (PR 1019); None leaves them.
        gptq: None rounds each weight by itself.
        lqer: None adds no correction.
    """

    matrix_bits: int = 8
    mlp_bits: int | None = None
    embed_bits: int = 8
    table_bits: int | None = None
    clip: ClipRule = ClipRule.QUANTILE
    clip_sigmas: float = 12.85
    mlp_clip_sigmas: float | None = None
    embed_clip_sigmas: float | None = None
    hessian_clip: float = 0.175
    scale_is_floored: bool = True
    passthrough_numel: int = 65_536
    control_bits: int = 32
    gate_bits: int = 16
    late_k_layers: int = 0
    layer_bits: LayerBitsConfig | None = None
    prune_fraction: float = 0.0
    target_bytes: int | None = None
    gptq: GptqConfig | None = None
    lqer: LqerConfig | None = None

    def __post_init__(self) -> None:
        embed_bits, mlp_bits = self.embed_bits, self.mlp_bits
        require(4 <= self.matrix_bits <= 8, "quant.matrix_bits", "must be 4 to 8", self.matrix_bits)
        require(mlp_bits is None or 4 <= mlp_bits <= 8, "quant.mlp_bits", "must be 4 to 8", mlp_bits)
        require(4 <= embed_bits <= 8 or embed_bits == 16, "quant.embed_bits", "must be 4 to 8 or 16", embed_bits)
        tables = embed_bits if self.table_bits is None else self.table_bits
        require(4 <= tables <= 8 or tables == 16, "quant.table_bits", "must be 4 to 8 or 16", tables)
        require(self.control_bits in {16, 32}, "quant.control_bits", "must be 16 or 32", self.control_bits)
        require(self.gate_bits in {8, 16}, "quant.gate_bits", "must be 8 or 16", self.gate_bits)
        require_positive(quant__clip_sigmas=self.clip_sigmas, quant__mlp_clip_sigmas=self.mlp_clip_sigmas)
        require_positive(quant__embed_clip_sigmas=self.embed_clip_sigmas, quant__target_bytes=self.target_bytes)
        require_not_negative(quant__passthrough_numel=self.passthrough_numel)
        require_not_negative(quant__late_k_layers=self.late_k_layers)
        require_fraction(quant__prune_fraction=self.prune_fraction, quant__hessian_clip=self.hessian_clip)
        needs_hessian = self.clip is ClipRule.HESSIAN_SIGMA
        require(not needs_hessian or self.gptq is not None, "quant.clip", "needs quant.gptq", self.clip.value)
