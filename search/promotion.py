"""Feeds a rung of a study from the one before: asks the study's rule what is due, and queues it with its reasons."""

from collections.abc import Callable, Sequence

from search.decision import Decision, Reason
from search.encoding import Encoder
from search.fallback import RowsByRung, feeding_place, is_open
from search.promote import FindParams
from search.promotion_rule import Step, model_decisions, top_decisions
from search.services import Services
from search.spec import StudySpec
from search.study import RungStudy
from search.trials import TrialRow
from spaces.fields import recipe_hash

# A recipe that kept the limit is let off so much of its prediction, which is about as far wrong.
PREDICTION_TOLERANCE = 0.02

IsOver = Callable[[int], bool]  # whether nothing more comes out of the rung at a place


class Promotion:
    """What goes on from one rung to the next.

    A decision is what the trials of both rungs imply, and is stored in one write with the trial that it queues: a
    driver that dies in between leaves nothing half done, and the next one comes to the same answer.

    Args:
        index: of the target among the study's rungs.
        studies: of all its rungs.
    """

    def __init__(
        self,
        spec: StudySpec,
        index: int,
        studies: Sequence[RungStudy],
        services: Services,
        find_params: FindParams,
    ) -> None:
        self._spec = spec
        self._index = index
        self._studies = studies
        self._rung, self._target = spec.rungs[index], studies[index]
        self._services = services
        self._find_params = find_params
        self._named = frozenset(recipe_hash(recipe) for recipe in (spec.base_recipe(), *spec.queued_recipes()))
        self._encoder = Encoder(spec.build_space()) if spec.sampler_kind == "joint" else None
        self._known: tuple[object, list[Decision]] = (None, [])

    def due(self, is_over: IsOver) -> list[Decision]:
        """What is to be queued now; asked again before anything has changed, the same at no cost."""
        rows_of = self._rows_of()
        over = [is_over(place) for place in range(self._index)]
        state = (over, [[row.status for row in rows] for rows in rows_of.values()])
        if state != self._known[0]:
            self._known = (state, self._decisions(rows_of, over))
        return self._known[1]

    def queue(self, decisions: Sequence[Decision]) -> None:
        """Queue recipes in the target, each with the decision that put it there."""
        for decision in decisions:
            recipe = decision.source.recipe
            assert recipe is not None, "it was measured"
            self._target.queue(
                recipe,
                decision.seed,
                self._find_params(recipe),
                promoted_from=decision.promoted_from,
                decision=decision.attribute(),
                solved=decision.source.attributes.get("solved"),
            )

    def _rows_of(self) -> dict[str, list[TrialRow]]:
        return {rung.name: study.rows() for rung, study in zip(self._spec.rungs, self._studies, strict=True)}

    def _decisions(self, rows_of: RowsByRung, over: Sequence[bool]) -> list[Decision]:
        if not is_open(self._spec, self._rung, rows_of):
            return []
        decide = top_decisions if self._spec.promotion.rule == "top" else model_decisions
        place = feeding_place(self._spec, self._index, rows_of)
        decisions = decide(self._step(rows_of, place, over[place]))
        is_used_up = over[place] and all(one.reason is Reason.SEEDS for one in decisions)
        if not (is_used_up and self._spec.rungs[place].fallback):
            return decisions
        return decide(self._step(rows_of, place - 1, over[place - 1]))  # slots are left: from where they came before

    def _step(self, rows_of: RowsByRung, place: int, is_source_finished: bool) -> Step:
        before = self._spec.rungs[place]
        source, target = rows_of[before.name], rows_of[self._rung.name]
        return Step(
            source=source,
            target=target,
            is_source_finished=is_source_finished,
            source_size=before.trials or before.promote or 1,
            slots=self._rung.promote or 0,
            anchors=self._spec.promotion.anchors,
            seeds=self._rung.seeds,
            named=self._named,
            artifact_bytes=self._spec.limits.artifact_bytes,
            other_rungs=[rows for name, rows in rows_of.items() if name not in {before.name, self._rung.name}],
            fits=lambda row: self._fits(row, [*source, *target]),
            draw=f"{self._spec.sampler.seed} {self._spec.name}/{self._rung.name}",
            encoder=self._encoder,
        )

    def _fits(self, row: TrialRow, rows: Sequence[TrialRow]) -> bool:
        """Whether a recipe is predicted to keep its bytes in the last rung.

        A proxy's own bytes say less: weights that were trained longer have other bytes, and mostly fewer.
        """
        recipe, limit = row.recipe, self._spec.limits.artifact_bytes
        assert recipe is not None, "it was measured"
        predicted = self._services.predict_bytes(recipe, row.attributes["code_bytes"], rows)
        is_over = row.violations.get("artifact_bytes", 0.0) > 0
        return predicted <= limit * (1.0 if is_over else 1.0 + PREDICTION_TOLERANCE)
