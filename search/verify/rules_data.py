"""Rules on data: validation tokens stay out of training and quantization, training shards out of evaluation."""

from collections.abc import Iterator

from search.verify.finding import Severity
from search.verify.review.marks import Flag
from search.verify.review.trace import Event, Kind, Trace
from search.verify.verdict import Verdict

REFUSE, REVIEW = Severity.REFUSE, Severity.REVIEW


def data_verdicts(trace: Trace) -> Iterator[Verdict]:
    """Everything these rules say."""
    start = evaluation_start(trace)
    yield from training(trace, start)
    yield from quantization(trace, start)
    yield from evaluation(trace, start)
    for event in trace.of(Kind.SELECT):
        is_kept = event.name not in {"rounding", "branch"} and (start is None or event.where < start)
        if is_kept:
            yield Verdict(
                "val-selection", REVIEW, [event], "expected weights chosen by training alone, got a validation loss"
            )


def evaluation_start(trace: Trace) -> int | None:
    """Where the artifact is read back: the first decompression or load after weights were packed."""
    packed = next((event for event in trace.of(Kind.PACK) if trained_before(trace, event)), None)
    if packed is None:
        return None
    loaded = [event for event in trace.of(Kind.UNPACK, Kind.RESET) if event.where > packed.where]
    unpacked = [event for event in loaded if event.kind is Kind.UNPACK]
    return (unpacked or loaded)[0].where if loaded else None


def trained_before(trace: Trace, event: Event) -> bool:
    """Whether something was trained before an event, or the script trains nothing."""
    gradients = trace.of(Kind.GRADIENT)
    return not gradients or gradients[0].where < event.where


def is_validation(event: Event) -> bool:
    """Whether an event is about validation tokens."""
    return Flag.VAL in event.marks


def trains_before_scoring(trace: Trace, event: Event, start: int | None) -> bool:
    """Whether what is trained on validation tokens goes into the artifact."""
    later = [other for other in trace.events[event.where + 1 :] if not other.is_dead]
    if start is not None and event.where > start:
        return any(other.kind is Kind.PACK and Flag.WEIGHTS in other.marks for other in later)
    if any(other.kind is Kind.PACK for other in later):
        return True
    return any(
        other.kind is Kind.GRADIENT and Flag.TRAIN in other.marks and not is_validation(other) for other in later
    )


def training(trace: Trace, start: int | None) -> Iterator[Verdict]:
    """No gradient of validation tokens before the artifact is read back."""
    for event in trace.of(Kind.GRADIENT):
        if not is_validation(event):
            continue
        if Flag.TRAIN in event.marks or trains_before_scoring(trace, event, start):
            message = "expected training on training tokens alone, got a gradient of validation tokens"
            yield Verdict("val-in-training", REFUSE, [event], message)


def quantization(trace: Trace, start: int | None) -> Iterator[Verdict]:
    """Nothing that becomes the artifact is computed from validation tokens."""
    end = len(trace.events) if start is None else start
    packs = [event.where for event in trace.of(Kind.PACK, Kind.ROUND)]
    for event in trace.of(Kind.HESSIAN, Kind.ROUND, Kind.SELECT, Kind.PACK):
        if not is_validation(event) or (event.kind is Kind.SELECT and event.name != "rounding"):
            continue
        if event.where < end or any(where > event.where for where in packs):
            what = {
                Kind.HESSIAN: "a Hessian",
                Kind.ROUND: "rounding",
                Kind.SELECT: "a choice",
                Kind.PACK: "stored weights",
            }[event.kind]
            message = f"expected quantization by training tokens or weights alone, got {what} by validation tokens"
            yield Verdict("val-in-quantization", REFUSE, [event], message)


def evaluation(trace: Trace, start: int | None) -> Iterator[Verdict]:
    """No training shard is read once the artifact is read back."""
    if start is None:
        return
    for event in trace.of(Kind.READ, Kind.LOSS, Kind.GRADIENT, Kind.HESSIAN):
        if event.where > start and Flag.TRAIN in event.marks and not is_validation(event):
            message = "expected no training data in the evaluation, got training shards after the artifact is read back"
            yield Verdict("train-in-eval", REFUSE, [event], message)
