"""Trials as a study's rules see them, and a step between two rungs, of which a test names what it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from search.promotion_rule import Step
from search.trials import TrialRow, TrialStatus
from search.winner import Terms

LIMIT = 16_000_000


def made_row(attributes: Mapping[str, Any], **changes: Any) -> TrialRow:
    """A feasible trial of a first rung with these attributes."""
    plain = TrialRow(
        rung="proxy",
        number=0,
        status=TrialStatus.FEASIBLE,
        values=(),
        params={},
        violations={},
        attributes=attributes,
        seconds=1.0,
    )
    return replace(plain, **changes)


def made_terms(**changes: Any) -> Terms:
    """The terms of a rung of one seed, of a study that has no other."""
    return replace(Terms(seeds=[1], artifact_bytes=LIMIT, other_rungs=[]), **changes)


def made_step(source: Sequence[TrialRow], target: Sequence[TrialRow], **changes: Any) -> Step:
    """A step to a rung of eight slots and one seed, without anchors; every recipe fits."""
    plain = Step(
        source=source,
        target=target,
        is_source_finished=False,
        source_size=16,
        slots=8,
        anchors=0,
        seeds=[1],
        named=frozenset(),
        artifact_bytes=LIMIT,
        other_rungs=[],
        fits=lambda _: True,
        draw="test",
    )
    return replace(plain, **changes)
