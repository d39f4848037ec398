"""Rules on the order of evaluation: each token's score is taken before anything is trained on it."""

from bisect import bisect_left
from collections.abc import Iterator

from search.verify.finding import Severity
from search.verify.review.marks import Computed, Extent, Flag, Marks, State, Turn
from search.verify.review.overlap import may_overlap, turns_by_loop
from search.verify.review.trace import Event, Kind, Trace
from search.verify.rules_data import evaluation_start, trains_before_scoring
from search.verify.verdict import Verdict

SCORES = frozenset({"val_bpb", "val_loss", "bpb", "bits_per_byte"})
MAX_PAIRS = 200_000


def order_verdicts(trace: Trace) -> Iterator[Verdict]:
    """Everything these rules say."""
    start = evaluation_start(trace)
    scored = scored_losses(trace)
    resets = trace.of(Kind.RESET)
    reached = turns_reached(scored)
    budget = MAX_PAIRS
    for gradient in trace.of(Kind.GRADIENT, Kind.SELECT):
        if Flag.VAL not in gradient.marks or trains_before_scoring(trace, gradient, start):
            continue
        if gradient.kind is Kind.SELECT and (start is None or gradient.where < start or not gradient.targets):
            continue
        early = runs_ahead(gradient, scored) or is_of_a_later_turn(gradient, reached)
        if early is not None:
            message = (
                f"expected each score before training on its tokens, got more tokens than line {early.line} has scored"
            )
            yield Verdict("ttt-order", Severity.REFUSE, [gradient, early], message)
        for loss in scored:
            budget -= 1
            if loss.where > gradient.where and budget > 0 and is_learned(gradient, loss, resets):
                yield verdict(gradient, loss)
                break


def runs_ahead(gradient: Event, scored: list[Event]) -> Event | None:
    """The loss before an update whose tokens end earlier than those of the update, from the same start."""
    learned = {mark.start: mark.length for mark in gradient.marks if isinstance(mark, Extent)}
    for loss in reversed(scored):
        lengths = [mark for mark in loss.marks if isinstance(mark, Extent) and mark.start in learned]
        if loss.where < gradient.where and lengths:
            is_ahead = any(mark.length < learned[mark.start] for mark in lengths)
            return loss if is_ahead and all(mark.length <= learned[mark.start] for mark in lengths) else None
    return None


def turns_reached(scored: list[Event]) -> dict[int, list[tuple[int, Event]]]:
    """Of each loop the losses with its turns, in order, each with the latest turn scored until then."""
    reached: dict[int, list[tuple[int, Event]]] = {}
    for loss in scored:
        for loop, turns in turns_by_loop(loss.marks).items():
            steps = reached.setdefault(loop, [])
            steps.append((max(*turns, *(turn for turn, _ in steps[-1:]), -1), loss))
    return reached


def is_of_a_later_turn(gradient: Event, reached: dict[int, list[tuple[int, Event]]]) -> Event | None:
    """The last loss before an update on a later turn's piece, of a loop of which only earlier pieces were scored."""
    for mark in gradient.marks:
        if isinstance(mark, Turn) and mark.ahead > 0:
            steps = reached.get(mark.loop, [])
            before = bisect_left(steps, gradient.where, key=lambda step: step[1].where)
            if before and steps[before - 1][0] < mark.turn:
                return steps[before - 1][1]
    return None


def scored_losses(trace: Trace) -> list[Event]:
    """Losses of validation tokens that reach a reported score; all of them where no report could be followed."""
    losses = [event for event in trace.of(Kind.LOSS) if Flag.VAL in event.marks]
    reported: set[int] = set()
    for event in trace.of(Kind.REPORT):
        if event.name in SCORES:
            reported |= {mark.event for mark in event.marks if isinstance(mark, Computed)}
    return [event for event in losses if event.where in reported] if reported else losses


def states(marks: Marks) -> set[State]:
    """Trainable numbers among marks."""
    return {mark for mark in marks if isinstance(mark, State)}


def is_learned(gradient: Event, loss: Event, resets: list[Event]) -> bool:
    """Whether a loss is computed with weights that were trained on its own tokens."""
    if not may_overlap(gradient.marks, loss.marks):
        return False
    if gradient.kind is Kind.SELECT:
        return bool(states(gradient.targets) & states(loss.marks))
    used = states(loss.marks)
    trained = states(gradient.targets) & used or states(gradient.marks) & used
    if used and states(gradient.marks) and not trained:
        return False
    restored = {
        state for event in resets if gradient.where < event.where < loss.where for state in states(event.targets)
    }
    return not trained or not trained <= restored


def verdict(gradient: Event, loss: Event) -> Verdict:
    """What is wrong, by what was trained."""
    targets = states(gradient.targets) or states(gradient.marks)
    if targets and not any(state.is_model for state in targets):
        message = (
            f"expected scores of tokens not fitted to, got a tensor optimized on tokens scored at line {loss.line}"
        )
        return Verdict("slot", Severity.REFUSE, [gradient, loss], message)
    message = (
        f"expected each score before training on its tokens, got training on tokens scored later, at line {loss.line}"
    )
    return Verdict("ttt-order", Severity.REFUSE, [gradient, loss], message)
