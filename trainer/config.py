"""What a run is: Recipe (what is trained and how it is stored) and Budget (how much of it). Standard library only.

A field's dotted path (model.num_layers) is its name in study files, in the database and in the dashboard. Numbers a
schedule uses are fractions of a run's progress in [0, 1], never step counts, so that a proxy and a full run differ in
length alone. A value that contradicts another raises ConfigError when the value is made.
"""

from dataclasses import dataclass, field

from trainer.checks import require, require_positive
from trainer.eval_config import EvalConfig
from trainer.model_config import ModelConfig
from trainer.store_config import ClipRule, Compressor, Layout, QuantConfig
from trainer.train_config import EmaConfig, OptimConfig, QatConfig, ScheduleConfig, SwaConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What is trained and how it is stored: no path, device, seed or time limit. The default is the naive baseline."""

    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EmaConfig | None = None
    swa: SwaConfig | None = None
    qat: QatConfig | None = None
    quant: QuantConfig = field(default_factory=QuantConfig)
    compressor: Compressor = Compressor.ZLIB
    layout: Layout = Layout.PLAIN
    evaluation: EvalConfig = field(default_factory=EvalConfig)

    @property
    def eval_seq_len(self) -> int:
        """Window length that scoring uses."""
        return self.evaluation.seq_len or self.schedule.train_seq_len

    def __post_init__(self) -> None:
        stride, length = self.evaluation.stride, self.eval_seq_len
        require(length >= stride, "evaluation.stride", f"must be at most the window length {length}", stride)
        require(self.ema is None or self.swa is None, "swa", "must be null where ema is on", "both")
        is_free = self.compressor not in {Compressor.RANS, Compressor.BEST}
        lays_out = self.layout is not Layout.PLAIN
        require(is_free or not lays_out, "layout", f"must be plain with {self.compressor.value}", self.layout.value)
        knows_row = self.quant.clip in {ClipRule.ROW_MAX, ClipRule.QUANTILE, ClipRule.SIGMA}
        clip = self.quant.clip.value
        require(self.qat is None or knows_row, "quant.clip", "must be row_max, quantile or sigma with qat", clip)
        lora, sgd = self.evaluation.lora, self.evaluation.sgd
        chunk = lora.chunk_tokens if lora else length
        require(chunk <= length, "evaluation.lora.chunk_tokens", f"must be at most the window length {length}", chunk)
        chunk = sgd.chunk_tokens if sgd else length
        is_whole = chunk % length == 0
        require(is_whole, "evaluation.sgd.chunk_tokens", f"must be a multiple of the window length {length}", chunk)


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
