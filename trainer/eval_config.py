"""How a model is scored. Standard library only."""

from dataclasses import dataclass
from enum import StrEnum

from trainer.checks import require, require_fraction, require_not_negative, require_positive


class LoraTargets(StrEnum):
    """The linear maps that adapt at evaluation."""

    QUERY_VALUE_HEAD = "query_value_head"  # PR 77, PR 340
    ALL = "all"  # queries, keys, values, output, a bypass of the MLP, and the head (PR 1530)


@dataclass(frozen=True, kw_only=True, slots=True)
class SgdAdaptConfig:
    """Score-first test-time training of all weights: each chunk is scored, then trained on (PR 549).

    Attributes:
        lr: peak learning rate, cosine over the chunks.
        chunk_tokens: tokens scored before each training.
        epochs: passes over a chunk that has been scored.
    """

    lr: float = 0.005
    momentum: float = 0.9
    epochs: int = 3
    chunk_tokens: int = 32_768

    def __post_init__(self) -> None:
        require_positive(evaluation__sgd__lr=self.lr, evaluation__sgd__epochs=self.epochs)
        require_positive(evaluation__sgd__chunk_tokens=self.chunk_tokens)
        require(0 <= self.momentum < 1, "evaluation.sgd.momentum", "must be in [0, 1)", self.momentum)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraAdaptConfig:
    """Score-first test-time training of low-rank additions, anew for each document (PR 77, PR 1530).

    A document's chunk is scored with what its earlier chunks taught, then one AdamW step is made on it.

    Attributes:
        alpha: the additions count alpha / rank times.
        chunk_tokens: tokens scored between steps.
        beta1, beta2, weight_decay: of AdamW.
        batch_documents: documents adapted side by side, each with its own additions.
        keeps_a: whether the inner matrix A carries over from document to document; B always starts at zero.
        phases: times the base weights are trained on the documents scored so far (PR 1610); 0 leaves them.
        prefix_fraction: share of documents, longest first, after which the last phase is over.
        phase_lr: peak learning rate of the phases' SGD.
    """

    rank: int = 8
    alpha: float = 8.0
    targets: LoraTargets = LoraTargets.QUERY_VALUE_HEAD
    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    chunk_tokens: int = 256
    batch_documents: int = 64
    keeps_a: bool = False
    phases: int = 0
    prefix_fraction: float = 0.05
    phase_lr: float = 0.001

    def __post_init__(self) -> None:
        require_positive(evaluation__lora__rank=self.rank, evaluation__lora__alpha=self.alpha)
        require_positive(evaluation__lora__lr=self.lr, evaluation__lora__chunk_tokens=self.chunk_tokens)
        require_positive(evaluation__lora__batch_documents=self.batch_documents)
        require_positive(evaluation__lora__phase_lr=self.phase_lr)
        require_not_negative(evaluation__lora__weight_decay=self.weight_decay, evaluation__lora__phases=self.phases)
        require_fraction(evaluation__lora__prefix_fraction=self.prefix_fraction)
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"evaluation.lora.{name}", "must be in [0, 1)", getattr(self, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """Sliding-window scoring, and adaptation to what has been scored.

    Attributes:
        seq_len: window length in tokens; None takes schedule.train_seq_len.
        stride: tokens a window advances and scores.
        document_mask: whether a window's context stops at BOS.
        sgd, lora: test-time training, at most one; its score then counts instead of the sliding one.
    """

    seq_len: int | None = None
    stride: int = 64
    document_mask: bool = False
    sgd: SgdAdaptConfig | None = None
    lora: LoraAdaptConfig | None = None

    @property
    def adapts(self) -> bool:
        """Whether scoring includes test-time training."""
        return self.sgd is not None or self.lora is not None

    def __post_init__(self) -> None:
        stride, length = self.stride, self.seq_len
        require_positive(evaluation__stride=stride)
        require(length is None or length >= stride, "evaluation.seq_len", f"must be at least stride {stride}", length)
        require(
            self.sgd is None or self.lora is None, "evaluation.lora", "must be null where evaluation.sgd is on", "both"
        )
