"""Feeds a rung of a study from the one before: asks the study's rule what is due, and queues it with its reasons."""

from collections.abc import Sequence

from search.decision import Decision
from search.encoding import Encoder
from search.promote import FindParams
from search.promotion_rule import Step, model_decisions, top_decisions
from search.services import Services
from search.spec import StudySpec
from search.study import RungStudy
from search.trials import TrialRow
from spaces.fields import recipe_hash

# A recipe that kept the limit is let off so much of its prediction, which is about as far wrong.
PREDICTION_TOLERANCE = 0.02


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
        self._source_rung, self._target_rung = spec.rungs[index - 1], spec.rungs[index]
        self._source, self._target = studies[index - 1 : index + 1]
        self._others = [*studies[: index - 1], *studies[index + 1 :]]
        self._services = services
        self._find_params = find_params
        self._named = frozenset(recipe_hash(recipe) for recipe in (spec.base_recipe(), *spec.queued_recipes()))
        self._encoder = Encoder(spec.build_space()) if spec.sampler_kind == "joint" else None
        self._known: tuple[object, list[Decision]] = (None, [])

    def due(self, *, is_source_finished: bool) -> list[Decision]:
        """What is to be queued now; asked again before anything has changed, the same at no cost."""
        source, target = self._source.rows(), self._target.rows()
        state = (is_source_finished, [row.status for row in source], [row.status for row in target])
        if state != self._known[0]:
            decide = top_decisions if self._spec.promotion.rule == "top" else model_decisions
            self._known = (state, decide(self._step(source, target, is_source_finished)))
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

    def _step(self, source: Sequence[TrialRow], target: Sequence[TrialRow], is_source_finished: bool) -> Step:
        return Step(
            source=source,
            target=target,
            is_source_finished=is_source_finished,
            source_size=self._source_rung.trials or self._source_rung.promote or 1,
            slots=self._target_rung.promote or 0,
            anchors=self._spec.promotion.anchors,
            seeds=self._target_rung.seeds,
            named=self._named,
            artifact_bytes=self._spec.limits.artifact_bytes,
            other_rungs=[study.rows() for study in self._others],
            fits=lambda row: self._fits(row, [*source, *target]),
            draw=f"{self._spec.sampler.seed} {self._spec.name}/{self._target_rung.name}",
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
