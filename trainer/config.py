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


def require_positive(**values: float | None) -> None:
    """Require named values above 0; None is no value. A double underscore stands for the dot of a path."""
    for name, value in values.items():
        require(value is None or value > 0, name.replace("__", "."), "must be positive", value)


def require_fraction(**values: float) -> None:
    """Require named values in [0, 1]."""
    for name, value in values.items():
        require(0 <= value <= 1, name.replace("__", "."), "must be in [0, 1]", value)


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
        heads, dim = self.num_heads, self.model_dim
        require(8 <= self.vocab_size <= 65_536, "model.vocab_size", "must be 8 to 65536 (uint16 ids)", self.vocab_size)
        require_positive(model__num_layers=self.num_layers, model__model_dim=dim, model__num_heads=heads)
        require_positive(model__num_kv_heads=self.num_kv_heads, model__rope_base=self.rope_base)
        require_positive(model__logit_softcap=self.logit_softcap, model__embed_init_std=self.embed_init_std)
        require(dim % heads == 0, "model.model_dim", f"must be a multiple of num_heads {heads}", dim)
        require(self.head_dim % 2 == 0, "model.model_dim", "model_dim / num_heads must be even", self.head_dim)
        is_grouped = heads % self.num_kv_heads == 0
        require(is_grouped, "model.num_heads", f"must be a multiple of num_kv_heads {self.num_kv_heads}", heads)
        require(self.mlp_dim >= 1, "model.mlp_mult", "must leave at least one hidden unit", self.mlp_mult)


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
        require_positive(optim__matrix_lr=self.matrix_lr, optim__embed_lr=self.embed_lr)
        require_positive(optim__scalar_lr=self.scalar_lr, optim__adam_eps=self.adam_eps)
        require_positive(optim__muon_steps=self.muon_steps, optim__grad_clip_norm=self.grad_clip_norm)
        for name in ("beta1", "beta2", "muon_momentum", "muon_momentum_start"):
            require(0 <= getattr(self, name) < 1, f"optim.{name}", "must be in [0, 1)", getattr(self, name))
        require_fraction(optim__muon_momentum_warmup_fraction=self.muon_momentum_warmup_fraction)
        decay = self.muon_weight_decay
        require(decay >= 0, "optim.muon_weight_decay", "must not be negative", decay)


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
        length, batch = self.train_seq_len, self.train_batch_tokens
        require(length >= 8, "schedule.train_seq_len", "must be at least 8", length)
        is_whole = batch >= length and batch % length == 0
        require(is_whole, "schedule.train_batch_tokens", f"must be a multiple of train_seq_len {length}", batch)
        require_fraction(schedule__warmdown_fraction=self.warmdown_fraction, schedule__lr_floor=self.lr_floor)


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
        require_positive(ema__half_life_fraction=self.half_life_fraction)
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
        embed_bits, most = self.embed_bits, self.passthrough_numel
        require(4 <= self.matrix_bits <= 8, "quant.matrix_bits", "must be 4 to 8", self.matrix_bits)
        require(4 <= embed_bits <= 8 or embed_bits == 16, "quant.embed_bits", "must be 4 to 8 or 16", embed_bits)
        require(most >= 0, "quant.passthrough_numel", "must not be negative", most)


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
        stride, length = self.stride, self.seq_len
        require_positive(evaluation__stride=stride)
        require(length is None or length >= stride, "evaluation.seq_len", f"must be at least stride {stride}", length)


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
        stride, length = self.evaluation.stride, self.eval_seq_len
        require(length >= stride, "evaluation.stride", f"must be at most the window length {length}", stride)


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
        given = (self.train_seconds, self.train_tokens)
        is_one = (self.train_seconds is None) != (self.train_tokens is None)
        require(is_one, "budget", "exactly one of train_seconds and train_tokens must be set", given)
        require_positive(budget__train_seconds=self.train_seconds, budget__train_tokens=self.train_tokens)
        require_positive(budget__eval_tokens=self.eval_tokens)
        size = self.world_size
        require(size >= 1 and 8 % size == 0, "budget.world_size", "must divide 8", size)


def check_fits(recipe: Recipe, budget: Budget) -> None:
    """Raise ConfigError where a recipe cannot run under a budget.

    Raises:
        ConfigError: the sequences of a batch do not divide over the ranks, or the tokens to score are no whole window.
    """
    length, scored = recipe.eval_seq_len, budget.eval_tokens
    enough = scored is None or scored >= length
    require(enough, "budget.eval_tokens", f"must be at least one window of {length} tokens", scored)
    sequences = recipe.schedule.train_batch_tokens // recipe.schedule.train_seq_len
    require(
        sequences % budget.world_size == 0,
        "schedule.train_batch_tokens",
        f"its {sequences} sequences must divide over world_size {budget.world_size}",
        recipe.schedule.train_batch_tokens,
    )
