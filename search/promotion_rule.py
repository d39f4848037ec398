"""Which trial goes on to a rung next, over plain rows: the same rows give the same answer, in any process.

The rule "model", slot by slot of the `promote` that a study grants:
1. anchors: named recipes of spread quality, once all of them have their proxy, so that proxies are calibrated early;
2. as proxies come in, the recipe with the best lower confidence bound of its posterior (search.joint_promotion where
   the study proposes by the joint model and that can say, else search.calibration) among those predicted to fit; one
   slot in four goes to a random one of the better half instead, which keeps the rank correlation unbiased; and no
   architecture family gets more than its share while another has a candidate;
3. with every slot used, the two best by their first seed, and whoever is the winner, run with the rung's other seeds.

The rule "top" waits for the rung before, and takes its best of those predicted to fit.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.calibration import Posterior, Scores, calibrate, seed_noise
from search.decision import Considered, Decision, Reason, reason_of
from search.encoding import Encoder
from search.entrants import Entrant, entrants
from search.joint_promotion import joint_posterior
from search.likeness import family_of, similarity
from search.trials import TrialRow, TrialStatus
from search.winner import Terms, scores_by_recipe, standings

RANDOM_EVERY = 4  # slots, of which the last is random
REPLICATED = 2  # recipes that get the rung's further seeds
ANCHOR_SHARE, MOST_ANCHORS = 4, 8  # one slot in four, unless the study file says otherwise
FAMILY_SHARE = 0.5  # of the slots
PACE = 2.0  # a share p of the proxies opens p ** PACE of the slots: later ones know more, and are better
NUM_ALTERNATIVES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Two rungs of a study, one feeding the other.

    Attributes:
        source, target: their trials.
        is_source_finished: whether the source will get no further trial.
        source_size: recipes that the source is to have in the end.
        slots: recipes that the target is to have in the end.
        anchors: how many of the slots are for named recipes; None chooses.
        seeds: of the target.
        named: hashes of the base and the queued recipes.
        artifact_bytes: limit of each run.
        other_rungs: trials of the rungs of the study that are neither.
        fits: whether a trial's recipe is predicted to keep its bytes in the last rung.
        draw: names this step among all, for random slots.
        encoder: of the params that the joint model goes by; None leaves it out.
    """

    source: Sequence[TrialRow]
    target: Sequence[TrialRow]
    is_source_finished: bool
    source_size: int
    slots: int
    anchors: int | None
    seeds: Sequence[int]
    named: frozenset[str]
    artifact_bytes: int
    other_rungs: Sequence[Sequence[TrialRow]]
    fits: Callable[[TrialRow], bool]
    draw: str
    encoder: Encoder | None = None

    @property
    def terms(self) -> Terms:
        """What recipes of the target are compared by."""
        others = (self.source, *self.other_rungs)
        return Terms(seeds=self.seeds, artifact_bytes=self.artifact_bytes, other_rungs=others)


def top_decisions(step: Step) -> list[Decision]:
    """The rule "top": the best of a finished rung, with every seed."""
    if not step.is_source_finished:
        return []
    present, taken, ruled = {row.key for row in step.target}, _hashes(step.target), _hashes(_ruled(step.target))
    ranked = entrants(step.source)
    there = [one for one in ranked if one.recipe_hash in ruled]  # maybe not with every seed yet
    new = [one for one in ranked if one.recipe_hash not in taken and step.fits(one.row)]
    return [
        replace(_decide(step, one, Reason.TOP), seed=seed)
        for one in [*there, *new[: max(step.slots - len(ruled), 0)]]
        for seed in step.seeds
        if (one.recipe_hash, seed) not in present
    ]


def model_decisions(step: Step) -> list[Decision]:
    """The rule "model": the one recipe that is to be promoted now, or the seeds of those that may be best."""
    used = used_slots(step.target)
    if used < step.slots:
        candidates = [one for one in entrants(step.source) if step.fits(one.row)]
        if decision := _anchor(step, candidates) or _next_recipe(step, candidates, used):
            return [decision]
        if not step.is_source_finished:
            return []
    return list(_further_seeds(step))


def used_slots(target: Sequence[TrialRow]) -> int:
    """How many recipes a rung owes to promotion; what a user promoted comes on top."""
    return len(_hashes(_ruled(target)))


def num_runs(slots: int, num_seeds: int, rule: str) -> int:
    """How many runs a rung gets: of each recipe with the first seed, of the best ones, or by "top" of all, with all."""
    return slots + (num_seeds - 1) * (slots if rule == "top" else min(slots, REPLICATED))


def num_anchors(slots: int, named: int, wanted: int | None) -> int:
    """How many named recipes run in a rung for calibration."""
    return min(named, slots, min(slots // ANCHOR_SHARE, MOST_ANCHORS) if wanted is None else wanted)


def _anchor(step: Step, candidates: Sequence[Entrant]) -> Decision | None:
    """The next named recipe to run at both budgets: the best one first, the worst one last, evenly spread between."""
    named = [row for row in step.source if row.attributes.get("recipe_hash") in step.named and not row.is_copy]
    present = {row.attributes["recipe_hash"] for row in named}
    if any(row.is_open for row in named) or not (present >= step.named or step.is_source_finished):
        return None  # spread is known once all of them have their proxy
    ranked = [one for one in candidates if one.recipe_hash in step.named]
    count = num_anchors(step.slots, len(ranked), step.anchors)
    if len(_hashes([row for row in step.target if reason_of(row) is Reason.ANCHOR])) >= count:
        return None  # also where another prediction of bytes would now choose others
    taken = _hashes(step.target)
    spread = [ranked[place * (len(ranked) - 1) // max(count - 1, 1)] for place in range(count)]
    return next((_decide(step, one, Reason.ANCHOR) for one in spread if one.recipe_hash not in taken), None)


def _next_recipe(step: Step, candidates: Sequence[Entrant], used: int) -> Decision | None:
    """The recipe for the next slot, where enough proxies have come in for it."""
    num_rated = len(_hashes([row for row in step.source if _is_rated(row)]))
    share = 1.0 if step.is_source_finished else min(num_rated / step.source_size, 1.0)
    taken = _hashes(step.target)
    free = [one for one in candidates if one.recipe_hash not in taken]
    if used >= math.floor(step.slots * share**PACE + 1e-9) or not free:
        return None
    better = candidates[: max(len(candidates) // 2, step.slots)]
    free = [one for one in better if one.recipe_hash not in taken] or free
    posterior = _posterior(step, free)
    lowest = sorted(range(len(free)), key=lambda place: posterior.lower_bounds[place])
    considered = [_considered(one, posterior, place) for place, one in enumerate(free)]
    if used % RANDOM_EVERY == RANDOM_EVERY - 1:
        place, reason = random.Random(f"{step.draw}/{used}").randrange(len(free)), Reason.RANDOM
    else:
        place, reason = _first_within_cap(step, free, lowest), Reason.LCB
    others = [considered[other] for other in lowest if other != place][:NUM_ALTERNATIVES]
    return _decide(step, free[place], reason, considered[place], others)


def _is_rated(row: TrialRow) -> bool:
    """Whether a proxy came to its end; a lost one is repeated, and must not open a slot before that."""
    return not row.is_open and not row.is_refused and row.status is not TrialStatus.LOST


def _first_within_cap(step: Step, free: Sequence[Entrant], order: Sequence[int]) -> int:
    """The first of an architecture family that has not had its share; simply the first where all have had it."""
    families = Counter(
        _family(row) for row in {row.attributes["recipe_hash"]: row for row in _ruled(step.target)}.values()
    )
    most = math.ceil(FAMILY_SHARE * step.slots)
    return next((place for place in order if families[_family(free[place].row)] < most), order[0])


def _posterior(step: Step, free: Sequence[Entrant]) -> Posterior:
    """Of the scores that the free recipes would have in the target."""
    joint = step.encoder and joint_posterior(step.encoder, step.source, step.target, [one.row for one in free])
    return joint or _calibrated(step, free)


def _calibrated(step: Step, free: Sequence[Entrant]) -> Posterior:
    """By their proxies; the recipes that are in the target already say how far those are to be trusted."""
    known = {one.recipe_hash: one for one in entrants(step.target)}
    paired = [one for one in entrants(step.source) if one.recipe_hash in known]
    group = [*free, *paired]
    scores = Scores(
        proxies=np.array([one.score for one in group]),
        num_proxies=np.array([float(one.runs) for one in group]),
        dears=np.array([math.nan] * len(free) + [known[one.recipe_hash].score for one in paired]),
        num_dears=np.array([1.0] * len(free) + [float(known[one.recipe_hash].runs) for one in paired]),
        similarity=similarity([recipe for one in group if (recipe := one.row.recipe) is not None]),
    )
    source, target = scores_by_recipe(step.source), scores_by_recipe(step.target)
    others = [scores_by_recipe(rows) for rows in step.other_rungs]
    return calibrate(scores, seed_noise(source, [target, *others]), seed_noise(target, [source, *others]))


def _further_seeds(step: Step) -> Iterator[Decision]:
    """Further seeds, fixed in the study file before any run: of two by their first, then of the winner."""
    first = [row for row in step.target if row.attributes.get("seed") == step.seeds[0]]
    if any(row.is_open for row in first):
        return
    present = {row.key for row in step.target}
    missing = [
        (row, seed)
        for row in _replicated(step, first)
        for seed in step.seeds[1:]
        if (row.attributes["recipe_hash"], seed) not in present
    ]
    if not missing and not any(row.is_open for row in step.target):
        best = [one.row for one in standings(step.target, step.terms)[:1]]
        missing = [
            (row, seed) for row in best for seed in step.seeds if (row.attributes["recipe_hash"], seed) not in present
        ]
    for row, seed in missing:
        yield Decision(
            source=row,
            chosen=Considered(trial=f"{row.rung}/{row.number}"),
            reason=Reason.SEEDS,
            seed=seed,
            promoted_from=row.attributes.get("promoted_from"),
        )


def _replicated(step: Step, first: Sequence[TrialRow]) -> list[TrialRow]:
    """The recipes likeliest to be the two best, by score and by whether all their seeds keep the limit of bytes.

    Those that were chosen before stay so, whatever their further seeds have taught since.

    Args:
        first: the target's runs with the first seed.
    """
    ranked = [one.row for one in standings(first, step.terms, REPLICATED)]
    begun = _hashes([row for row in step.target if reason_of(row) is Reason.SEEDS])
    chosen = [row for row in ranked if row.attributes["recipe_hash"] in begun]
    return chosen + [row for row in ranked if row not in chosen][: max(REPLICATED - len(begun), 0)]


def _decide(
    step: Step, one: Entrant, reason: Reason, chosen: Considered | None = None, others: Sequence[Considered] = ()
) -> Decision:
    return Decision(
        source=one.row,
        chosen=chosen or Considered(trial=one.name),
        reason=reason,
        seed=step.seeds[0],
        alternatives=others,
        promoted_from=one.name,
    )


def _considered(one: Entrant, posterior: Posterior, place: int) -> Considered:
    if not posterior.is_calibrated:  # an order, and no scores
        return Considered(trial=one.name)
    return Considered(trial=one.name, mean=float(posterior.means[place]), sd=float(posterior.sds[place]))


def _ruled(target: Sequence[TrialRow]) -> list[TrialRow]:
    """Trials that a rung owes to promotion; what a user promoted comes on top."""
    return [row for row in target if "recipe_hash" in row.attributes and reason_of(row) is not Reason.USER]


def _hashes(rows: Sequence[TrialRow]) -> set[str]:
    return {row.attributes["recipe_hash"] for row in rows if "recipe_hash" in row.attributes}


def _family(row: TrialRow) -> str:
    recipe = row.recipe
    return "" if recipe is None else family_of(recipe)
