"""How a model is trained: optimizer, schedule, data order, averaging, quantization-aware training.

Numbers a schedule uses are fractions of a run's progress in [0, 1], never step counts. Standard library only.
"""

from dataclasses import dataclass
from enum import StrEnum

from trainer.checks import require, require_fraction, require_not_negative, require_positive, require_start


class MuonForm(StrEnum):
    """What Muon does around its orthogonalisation."""

    PLAIN = "plain"
    ROW_EQUALIZED = "row_equalized"  # rows of the update to unit norm before it (MuonEq-R, PR 1285)
    NORMUON = "normuon"  # rows divided by their running root mean square after it (arXiv 2510.05491, PR 122)


class NewtonSchulz(StrEnum):
    """Coefficients of the orthogonalisation."""

    QUINTIC = "quintic"  # one triple, singular values land in 0.7 to 1.2
    POLAR_EXPRESS = "polar_express"  # a triple an iteration, converging (arXiv 2505.16932, PR 1787)


class Loader(StrEnum):
    """The order in which the training stream is read."""

    SEQUENTIAL = "sequential"
    COPRIME_STRIDE = (
        "coprime_stride"  # blocks of each shard by a stride coprime to their number, shards mixed (PR 1060)
    )
    SHUFFLED = "shuffled"  # blocks of each shard in random order (PR 1394)
    DOCUMENTS = "documents"  # in order, each batch from the start of a document on (PR 1530)


class QatForm(StrEnum):
    """What quantization-aware training does to the weights of a forward pass."""

    STRAIGHT_THROUGH = "straight_through"  # rounded as stored, gradients as if they were not (PR 122)
    NOISE = "noise"  # uniform noise of one step's width (PR 363)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Muon for matrices, Adam for embeddings and for vectors and scalars.

    Attributes:
        matrix_lr, embed_lr, scalar_lr: peak learning rates of the three groups.
        beta1, beta2, adam_eps: of both Adam groups.
        embed_weight_decay, scalar_weight_decay: decoupled, of the two Adam groups.
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
    embed_weight_decay: float = 0.0
    scalar_weight_decay: float = 0.0
    muon: MuonForm = MuonForm.PLAIN
    newton_schulz: NewtonSchulz = NewtonSchulz.QUINTIC
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
        require_not_negative(
            optim__muon_weight_decay=self.muon_weight_decay,
            optim__embed_weight_decay=self.embed_weight_decay,
            optim__scalar_weight_decay=self.scalar_weight_decay,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Batch, sequence length, data order and learning-rate schedule.

    Attributes:
        train_batch_tokens: tokens per optimizer step over all ranks.
        document_mask: whether attention stops at BOS in training, so that no document sees another.
        warmdown_fraction: last part of the run over which the learning rate falls linearly.
        lr_floor: multiplier the warmdown ends at.
    """

    train_batch_tokens: int = 524_288
    train_seq_len: int = 1024
    loader: Loader = Loader.SEQUENTIAL
    document_mask: bool = False
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
        require_start(ema__start_fraction=self.start_fraction)


@dataclass(frozen=True, kw_only=True, slots=True)
class SwaConfig:
    """Plain average of checkpoints over the end of the run, summed in float32, used from quantization on.

    Attributes:
        start_fraction: progress of the first checkpoint. A warmdown of 0.4 averaged below half the peak learning rate
            (PR 162) is 0.8.
        every_fraction: progress between checkpoints; 50 of 7,379 steps (PR 162) are 0.0068.
    """

    start_fraction: float = 0.8
    every_fraction: float = 0.0068

    def __post_init__(self) -> None:
        require_start(swa__start_fraction=self.start_fraction)
        require_positive(swa__every_fraction=self.every_fraction)


@dataclass(frozen=True, kw_only=True, slots=True)
class QatConfig:
    """Quantization-aware training of every matrix that is stored in integers, by the clip rule it is stored with.

    Attributes:
        start_fraction: progress at which it goes on.
    """

    form: QatForm = QatForm.STRAIGHT_THROUGH
    start_fraction: float = 0.0

    def __post_init__(self) -> None:
        require_start(qat__start_fraction=self.start_fraction)
