"""The transformer: its shape, its switchable parts and its initial weights. Standard library only."""

from dataclasses import dataclass
from enum import StrEnum

from trainer.checks import require, require_not_negative, require_positive, require_start

GATE_CHANNELS = 12  # leading ones of its input that a small gate reads


class MlpKind(StrEnum):
    """The feed-forward half of a block."""

    RELU2 = "relu2"  # two matrices, squared ReLU between
    LEAKY_RELU2 = "leaky_relu2"  # the same with slope 0.5 below zero, squared
    SWIGLU = "swiglu"  # three matrices: silu(gate) * up, then down


class EmbedInit(StrEnum):
    """The tied embedding's start."""

    NORMAL = "normal"  # N(0, embed_init_std)
    OVERTONE = "overtone"  # the same with singular values S1 * k ** -0.5 (PR 60)
    POWER_LAW = "power_law"  # random bases, singular values falling as k ** -0.5, norm std * sqrt(D) (PR 340)


class MatrixInit(StrEnum):
    """The start of matrices that do not start at zero."""

    UNIFORM = "uniform"  # torch's default, +-1 / sqrt(columns)
    ORTHOGONAL = "orthogonal"  # where both sides are at least 64 wide


class ResidMixInit(StrEnum):
    """How much of the stream and of the embedding enters a block at first."""

    IDENTITY = "identity"  # the stream alone
    PHASE_TRANSITION = "phase_transition"  # from embedding to stream over depth, sigmoid(3 (i / (L - 1) - 0.5)) (PR 60)


class XsaForm(StrEnum):
    """What exclusive self-attention takes out of a head's output."""

    PROJECTION = "projection"  # its component along the token's own value (PR 265)
    MEAN_SHARE = "mean_share"  # the token's own value / T, as PR 333's code has it


class GateForm(StrEnum):
    """A gate on each attention head's output, from the block's normalised input x."""

    NARROW = "narrow"  # 2 sigmoid(W x[:12]), W zero: identity at first (PR 1667)
    DENSE = "dense"  # sigmoid(W x), W of std 0.005: half at first (PR 1736)
    SPARSE = "sparse"  # sigmoid(scale W x[:12]), W zero: half at first (PR 1787)


class SmearForm(StrEnum):
    """How the embedding of the token before is mixed in."""

    CONVEX = "convex"  # (1 - g) x[t] + g x[t-1], g = sigmoid(w) a channel, after the norm (PR 162)
    RESIDUAL = "residual"  # x[t] + s sigmoid(W x[t, :12]) x[t-1], before the norm (PR 1667)


class ParallelForm(StrEnum):
    """How attention and MLP of the last blocks run beside each other."""

    GPT_J = "gpt_j"  # both read the same stream and add to it (PR 1412)
    TWO_LANE = "two_lane"  # a stream for each, with learned routing at the block's end (PR 1529)


@dataclass(frozen=True, kw_only=True, slots=True)
class XsaConfig:
    """Exclusive self-attention in the last layers; last_layers beyond num_layers means all."""

    form: XsaForm = XsaForm.PROJECTION
    last_layers: int = 4

    def __post_init__(self) -> None:
        require_positive(model__xsa__last_layers=self.last_layers)


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """A gate on attention's heads. scale is the s of the sparse form; the others have no use for it."""

    form: GateForm = GateForm.SPARSE
    scale: float = 0.5

    def __post_init__(self) -> None:
        require_positive(model__gate__scale=self.scale)


@dataclass(frozen=True, kw_only=True, slots=True)
class BigramConfig:
    """A hashed table of token pairs, added to the token embedding (PR 162).

    Attributes:
        buckets: rows of the table; the last one is for positions without a token before.
        dim: width of a row, projected to model_dim.
    """

    buckets: int = 2048
    dim: int = 128

    def __post_init__(self) -> None:
        require(self.buckets >= 2, "model.bigram.buckets", "must be at least 2", self.buckets)
        require_positive(model__bigram__dim=self.dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class SmearConfig:
    """A gate that mixes in the embedding before; blocked at BOS, so no document sees another.

    Attributes:
        gate_init: w of the convex form at first; 0 is half and half, -3 little. The residual form has no use for it.
    """

    form: SmearForm = SmearForm.CONVEX
    gate_init: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueEmbedConfig:
    """A table of token values, shared by the last layers and added to their attention values (PR 374).

    Attributes:
        dim: width of a row, projected to the width of keys and values.
        last_layers: how many layers use it; beyond num_layers means all.
    """

    dim: int = 128
    last_layers: int = 2

    def __post_init__(self) -> None:
        require_positive(model__value_embed__dim=self.dim, model__value_embed__last_layers=self.last_layers)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelConfig:
    """Attention and MLP beside each other in the last layers; last_layers beyond num_layers means all."""

    form: ParallelForm = ParallelForm.GPT_J
    last_layers: int = 4

    def __post_init__(self) -> None:
        require_positive(model__parallel__last_layers=self.last_layers)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """A run of middle layers that the stream passes several times (PR 340, 1204, 1285).

    Attributes:
        first_layer, last_layer: the run, both included.
        passes: times through it once loops are on.
        start_fraction: progress at which they go on; scoring always has them on.
        scales_skips: whether U-Net skips are divided by sqrt(passes) (PR 340).
    """

    first_layer: int = 3
    last_layer: int = 5
    passes: int = 3
    start_fraction: float = 0.35
    scales_skips: bool = False

    def __post_init__(self) -> None:
        first, last = self.first_layer, self.last_layer
        require(0 <= first <= last, "model.loop.first_layer", f"must be 0 to last_layer {last}", first)
        require(self.passes >= 2, "model.loop.passes", "must be at least 2", self.passes)
        require_start(model__loop__start_fraction=self.start_fraction)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The transformer. Defaults are the challenge's naive baseline.

    Attributes:
        mlp_mult: MLP hidden width as a multiple of model_dim, rounded to a whole number of units.
        rope_dims: leading channels of a head that are rotated; None rotates all.
        rope_ntk_length: length beyond which the rotary base grows with the sequence (NTK); None never.
        qk_gain_init: initial learned gain on normalised queries, per head.
        logit_softcap: c in c * tanh(logits / c).
        embed_init_std: standard deviation of the tied embedding at the start.
        norm_scaled_by_depth: whether normalised block inputs are divided by sqrt(layer + 1) (PR 315).
        skip_gates: whether a U-Net skip enters through a learned gate instead of a sum.
        dropout: on attention probabilities and MLP output in training (PR 340).
    """

    vocab_size: int = 1024
    num_layers: int = 9
    model_dim: int = 512
    num_heads: int = 8
    num_kv_heads: int = 4
    mlp: MlpKind = MlpKind.RELU2
    mlp_mult: float = 2.0
    rope_base: float = 10_000.0
    rope_dims: int | None = None
    rope_ntk_length: int | None = None
    qk_gain_init: float = 1.5
    logit_softcap: float = 30.0
    embed_init: EmbedInit = EmbedInit.NORMAL
    embed_init_std: float = 0.005
    matrix_init: MatrixInit = MatrixInit.UNIFORM
    resid_mix_init: ResidMixInit = ResidMixInit.IDENTITY
    norm_scaled_by_depth: bool = False
    skip_gates: bool = False
    dropout: float = 0.0
    xsa: XsaConfig | None = None
    gate: GateConfig | None = None
    bigram: BigramConfig | None = None
    smear: SmearConfig | None = None
    value_embed: ValueEmbedConfig | None = None
    parallel: ParallelConfig | None = None
    loop: LoopConfig | None = None

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.model_dim // self.num_heads

    @property
    def rotated_dims(self) -> int:
        """Rotated channels of a head."""
        return self.rope_dims or self.head_dim

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP."""
        return round(self.mlp_mult * self.model_dim)

    def layer_order(self, is_looped: bool) -> tuple[int, ...]:
        """The layers in the order the stream passes them."""
        layers = tuple(range(self.num_layers))
        if self.loop is None or not is_looped:
            return layers
        first, end = self.loop.first_layer, self.loop.last_layer + 1
        return layers[:first] + layers[first:end] * self.loop.passes + layers[end:]

    @property
    def num_skips(self) -> int:
        """U-Net skips with loops on: half the passes through a layer push, the others pop."""
        return len(self.layer_order(True)) // 2

    def __post_init__(self) -> None:
        heads, dim = self.num_heads, self.model_dim
        require(8 <= self.vocab_size <= 65_536, "model.vocab_size", "must be 8 to 65536 (uint16 ids)", self.vocab_size)
        require_positive(model__num_layers=self.num_layers, model__model_dim=dim, model__num_heads=heads)
        require_positive(model__num_kv_heads=self.num_kv_heads, model__rope_base=self.rope_base)
        require_positive(model__logit_softcap=self.logit_softcap, model__embed_init_std=self.embed_init_std)
        require_positive(model__rope_ntk_length=self.rope_ntk_length)
        require(dim % heads == 0, "model.model_dim", f"must be a multiple of num_heads {heads}", dim)
        require(self.head_dim % 2 == 0, "model.model_dim", "model_dim / num_heads must be even", self.head_dim)
        is_grouped = heads % self.num_kv_heads == 0
        require(is_grouped, "model.num_heads", f"must be a multiple of num_kv_heads {self.num_kv_heads}", heads)
        require(self.mlp_dim >= 1, "model.mlp_mult", "must leave at least one hidden unit", self.mlp_mult)
        rotated = self.rope_dims
        is_part = rotated is None or (4 <= rotated <= self.head_dim and rotated % 2 == 0)
        require(is_part, "model.rope_dims", f"must be even, 4 to the head width {self.head_dim}", rotated)
        require_not_negative(model__dropout=self.dropout)
        require(self.dropout < 1, "model.dropout", "must be below 1", self.dropout)
        slowest = self.rope_ntk_length is None or self.rotated_dims > 2
        require(slowest, "model.rope_ntk_length", "needs a head of at least 4 channels", self.rope_ntk_length)
        reads_part = self.gate is not None and self.gate.form is not GateForm.DENSE
        reads_part |= self.smear is not None and self.smear.form is SmearForm.RESIDUAL
        enough = dim >= GATE_CHANNELS or not reads_part
        require(enough, "model.model_dim", f"must be at least {GATE_CHANNELS} for its gates", dim)
        self._check_loop()

    def _check_loop(self) -> None:
        if self.loop is None:
            return
        last, path = self.loop.last_layer, "model.loop.last_layer"
        require(last < self.num_layers, path, f"must be below num_layers {self.num_layers}", last)
        if self.parallel is not None and self.parallel.form is ParallelForm.TWO_LANE:
            first_lane = self.num_layers - self.parallel.last_layers
            require(last < first_lane, path, f"must lie before the two lanes' first layer {first_lane}", last)
