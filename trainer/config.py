"""What a run is: Recipe (what is trained and how it is stored) and Budget (how much of it). Standard library only.

A field's dotted path (model.num_layers) is its name in study files, in the database and in the dashboard. Numbers a
schedule uses are fractions of a run's progress in [0, 1], never step counts, so that a proxy and a full run differ in
length alone. A value that contradicts another raises ConfigError when the value is made.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from trainer.errors import ConfigError


class ClipRule(StrEnum):
    """Where a row of weights is clipped before it is rounded."""

    ROW_MAX = "row_max"  # the row's largest magnitude
    QUANTILE = "quantile"  # the row's 99.99984 % quantile of magnitudes (the challenge's baseline)


class Compressor(StrEnum):
    """The general-purpose compressor of the weight file, each at its strongest setting."""

    ZLIB = "zlib"
    LZMA = "lzma"
    ZSTD = "zstd"
    BROTLI = "brotli"


def require(holds: bool, path: str, expected: str, got: object) -> None:
    """Raise ConfigError naming the field where holds is false."""
    if not holds:
        raise ConfigError(f"{path}: {expected}, got {got}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The transformer's shape and initialisation. Defaults are the challenge's naive baseline.

    Attributes:
        mlp_mult: MLP hidden width as a multiple of model_dim, rounded to a whole number of units.
        qk_gain_init: initial learned gain on normalised queries, per head.
        logit_softcap: c in c * tanh(logits / c).
        embed_init_std: standard deviation of the tied embedding at the start.
    """

    vocab_size: int = 1024
    num_layers: int = 9
    model_dim: int = 512
    num_heads: int = 8
    num_kv_heads: int = 4
    mlp_mult: float = 2.0
    rope_base: float = 10_000.0
    qk_gain_init: float = 1.5
    logit_softcap: float = 30.0
    embed_init_std: float = 0.005

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.model_dim // self.num_heads

    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP."""
        return round(self.mlp_mult * self.model_dim)

    def __post_init__(self) -> None:
        require(
            8 <= self.vocab_size <= 65_536,
            "model.vocab_size",
            "must be 8 to 65536 (token ids are uint16)",
            self.vocab_size,
        )
        for name in ("num_layers", "model_dim", "num_heads", "num_kv_heads"):
            require(getattr(self, name) >= 1, f"model.{name}", "must be at least 1", getattr(self, name))
        require(
            self.model_dim % self.num_heads == 0,
            "model.model_dim",
            f"must be a multiple of num_heads {self.num_heads}",
            self.model_dim,
        )
        require(
            self.head_dim % 2 == 0,
            "model.model_dim",
            "model_dim / num_heads must be even (rotary pairs)",
            self.head_dim,
        )
        require(
            self.num_heads % self.num_kv_heads == 0,
            "model.num_heads",
            f"must be a multiple of num_kv_heads {self.num_kv_heads}",
            self.num_heads,
        )
        require(self.mlp_dim >= 1, "model.mlp_mult", "must leave at least one hidden unit", self.mlp_mult)
        for name in ("rope_base", "logit_softcap", "embed_init_std"):
            require(getattr(self, name) > 0, f"model.{name}", "must be positive", getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Muon for matrices, Adam for the embedding and for vectors and scalars.

    Attributes:
        matrix_lr, embed_lr, scalar_lr: peak learning rates of the three groups.
        beta1, beta2, adam_eps: of both Adam groups.
        muon_momentum: momentum after its warm-up; it rises linearly from muon_momentum_start.
        muon_momentum_warmup_fraction: progress at which it arrives.
        muon_steps: Newton-Schulz iterations.
        muon_weight_decay: decoupled; each step multiplies matrices by 1 - lr * muon_weight_decay first.
        grad_clip_norm: global gradient norm cap; None leaves gradients alone.
    """

    matrix_lr: float = 0.04
    embed_lr: float = 0.05
    scalar_lr: float = 0.04
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    muon_momentum: float = 0.95
    muon_momentum_start: float = 0.85
    muon_momentum_warmup_fraction: float = 0.036  # 500 of the baseline's 13,780 steps
    muon_steps: int = 5
    muon_weight_decay: float = 0.0
    grad_clip_norm: float | None = None

    def __post_init__(self) -> None:
        for name in ("matrix_lr", "embed_lr", "scalar_lr", "adam_eps"):
            require(getattr(self, name) > 0, f"optim.{name}", "must be positive", getattr(self, name))
        for name in ("beta1", "beta2", "muon_momentum", "muon_momentum_start"):
            require(0 <= getattr(self, name) < 1, f"optim.{name}", "must be in [0, 1)", getattr(self, name))
        require(
            0 <= self.muon_momentum_warmup_fraction <= 1,
            "optim.muon_momentum_warmup_fraction",
            "must be in [0, 1]",
            self.muon_momentum_warmup_fraction,
        )
        require(self.muon_steps >= 1, "optim.muon_steps", "must be at least 1", self.muon_steps)
        require(self.muon_weight_decay >= 0, "optim.muon_weight_decay", "must not be negative", self.muon_weight_decay)
        require(
            self.grad_clip_norm is None or self.grad_clip_norm > 0,
            "optim.grad_clip_norm",
            "must be positive or null",
            self.grad_clip_norm,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Batch, sequence length and learning-rate schedule.

    Attributes:
        train_batch_tokens: tokens per optimizer step over all ranks.
        warmdown_fraction: last part of the run over which the learning rate falls linearly.
        lr_floor: multiplier the warmdown ends at.
    """

    train_batch_tokens: int = 524_288
    train_seq_len: int = 1024
    warmdown_fraction: float = 0.087  # 1,200 of the baseline's 13,780 steps
    lr_floor: float = 0.0

    def __post_init__(self) -> None:
        require(self.train_seq_len >= 8, "schedule.train_seq_len", "must be at least 8", self.train_seq_len)
        require(
            self.train_batch_tokens >= self.train_seq_len and self.train_batch_tokens % self.train_seq_len == 0,
            "schedule.train_batch_tokens",
            f"must be a multiple of train_seq_len {self.train_seq_len}",
            self.train_batch_tokens,
        )
        require(
            0 <= self.warmdown_fraction <= 1, "schedule.warmdown_fraction", "must be in [0, 1]", self.warmdown_fraction
        )
        require(0 <= self.lr_floor <= 1, "schedule.lr_floor", "must be in [0, 1]", self.lr_floor)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmaConfig:
    """Exponential moving average of all weights, float32, used in place of the weights from quantization on.

    Attributes:
        half_life_fraction: share of the run after which a weight's influence has halved. A decay of 0.997 a step over
            7,100 steps (records of March) is ln 2 / -ln 0.997 / 7100 = 0.033.
        start_fraction: progress at which averaging starts, from the weights of that moment.
    """

    half_life_fraction: float = 0.033
    start_fraction: float = 0.0

    def __post_init__(self) -> None:
        require(self.half_life_fraction > 0, "ema.half_life_fraction", "must be positive", self.half_life_fraction)
        require(0 <= self.start_fraction < 1, "ema.start_fraction", "must be in [0, 1)", self.start_fraction)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantConfig:
    """How weights are stored: rows of matrices as small integers with an fp16 scale a row.

    Attributes:
        matrix_bits: bits of block matrices, 4 to 8.
        embed_bits: bits of the tied embedding, 4 to 8, or 16 for fp16.
        scale_is_floored: whether a row's step is at least 1 / q_max, as in the baseline: rows of small weights then use
            fewer levels, for fewer bytes and more error.
        passthrough_numel: float tensors of at most this many elements are stored as fp16, not quantized.
    """

    matrix_bits: int = 8
    embed_bits: int = 8
    clip: ClipRule = ClipRule.QUANTILE
    scale_is_floored: bool = True
    passthrough_numel: int = 65_536

    def __post_init__(self) -> None:
        require(4 <= self.matrix_bits <= 8, "quant.matrix_bits", "must be 4 to 8", self.matrix_bits)
        require(
            4 <= self.embed_bits <= 8 or self.embed_bits == 16,
            "quant.embed_bits",
            "must be 4 to 8 or 16",
            self.embed_bits,
        )
        require(self.passthrough_numel >= 0, "quant.passthrough_numel", "must not be negative", self.passthrough_numel)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """Sliding-window scoring.

    Attributes:
        seq_len: window length in tokens; None takes schedule.train_seq_len.
        stride: tokens a window advances and scores.
    """

    seq_len: int | None = None
    stride: int = 64

    def __post_init__(self) -> None:
        require(self.stride >= 1, "evaluation.stride", "must be at least 1", self.stride)
        require(
            self.seq_len is None or self.seq_len >= self.stride,
            "evaluation.seq_len",
            f"must be at least stride {self.stride}",
            self.seq_len,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What is trained and how it is stored: no path, device, seed or time limit. The default is the naive baseline."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig | None = None
    quant: QuantConfig = field(default_factory=QuantConfig)
    compressor: Compressor = Compressor.ZLIB
    evaluation: EvalConfig = field(default_factory=EvalConfig)

    @property
    def eval_seq_len(self) -> int:
        """Window length that scoring uses."""
        return self.evaluation.seq_len or self.schedule.train_seq_len

    def __post_init__(self) -> None:
        require(
            self.eval_seq_len >= self.evaluation.stride,
            "evaluation.stride",
            f"must be at most the window length {self.eval_seq_len}",
            self.evaluation.stride,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much of a recipe is run: the fidelity axis of the search.

    Attributes:
        train_seconds: wall-clock cap on training and quantization together; None when train_tokens rules.
        train_tokens: tokens to train on; None when train_seconds rules.
        world_size: number of GPUs (processes on CPU); divides 8, so every rank gets the same share of a batch.
        eval_tokens: validation tokens to score; None scores the whole split.
    """

    train_seconds: float | None = None
    train_tokens: int | None = None
    world_size: int = 1
    eval_tokens: int | None = None

    def __post_init__(self) -> None:
        require(
            (self.train_seconds is None) != (self.train_tokens is None),
            "budget",
            "exactly one of train_seconds and train_tokens must be set",
            (self.train_seconds, self.train_tokens),
        )
        require(
            self.train_seconds is None or self.train_seconds > 0,
            "budget.train_seconds",
            "must be positive",
            self.train_seconds,
        )
        require(
            self.train_tokens is None or self.train_tokens > 0,
            "budget.train_tokens",
            "must be positive",
            self.train_tokens,
        )
        require(
            self.world_size >= 1 and 8 % self.world_size == 0, "budget.world_size", "must divide 8", self.world_size
        )
        require(
            self.eval_tokens is None or self.eval_tokens > 0, "budget.eval_tokens", "must be positive", self.eval_tokens
        )


def check_fits(recipe: Recipe, budget: Budget) -> None:
    """Raise ConfigError where a recipe cannot run under a budget.

    Raises:
        ConfigError: the sequences of a batch do not divide over the ranks.
    """
    sequences = recipe.schedule.train_batch_tokens // recipe.schedule.train_seq_len
    require(
        sequences % budget.world_size == 0,
        "schedule.train_batch_tokens",
        f"its {sequences} sequences must divide over world_size {budget.world_size}",
        recipe.schedule.train_batch_tokens,
    )
