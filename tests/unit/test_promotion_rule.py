"""Who is promoted when, and why, over plain rows."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from made_trials import LIMIT, made_row, made_step

from search.decision import Reason
from search.promotion_rule import Step, model_decisions, num_anchors, top_decisions, used_slots
from search.trials import TrialRow, TrialStatus
from spaces.fields import recipe_hash, recipe_to_dict, set_values
from trainer.config import Recipe


def recipe_of(number: int, **values: Any) -> Recipe:
    return set_values(Recipe(), {"optim.matrix_lr": 0.01 + 0.001 * number, **values})


def row(
    number: int,
    val_bpb: float | None,
    status: TrialStatus = TrialStatus.FEASIBLE,
    rung: str = "proxy",
    recipe: Recipe | None = None,
    **more: Any,
) -> TrialRow:
    chosen = recipe or recipe_of(number)
    attributes = {
        "recipe": json.dumps(recipe_to_dict(chosen)),
        "recipe_hash": recipe_hash(chosen),
        "seed": 1,
        "code_bytes": 1,
        **({} if val_bpb is None else {"val_bpb": val_bpb}),
        **more,
    }
    violations = {"artifact_bytes": 0.1} if status is TrialStatus.INFEASIBLE else {}
    return made_row(attributes, rung=rung, number=number, status=status, violations=violations)


def sized(size: int) -> dict[str, Any]:
    return {"artifact_bytes": size, "weight_bytes": size - 60_000}


def proxies(count: int) -> list[TrialRow]:
    return [row(number, 1.3 - 0.01 * ((number * 7) % count)) for number in range(count)]


def step(source: Sequence[TrialRow], target: Sequence[TrialRow] = (), **changes: Any) -> Step:
    return made_step(source, target, **changes)


def promoted(given: Step, decide: Callable[[Step], list[Any]] = model_decisions) -> tuple[list[Any], list[TrialRow]]:
    """Everything that is promoted one after the other, each run having ended before the next is chosen."""
    target, decisions = list(given.target), list[Any]()
    while found := decide(replace(given, target=target)):
        for one in found:
            assert one.source.recipe is not None
            score = 0.8 * one.source.attributes["val_bpb"] + one.seed / 1e4
            target.append(
                row(
                    len(target),
                    score,
                    rung="full",
                    recipe=one.source.recipe,
                    seed=one.seed,
                    decision=one.attribute(),
                    promoted_from=one.promoted_from,
                )
            )
            decisions.append(one)
    return decisions, target


def test_the_best_proxies_take_the_slots_but_for_a_random_one_in_four() -> None:
    source = proxies(16)
    decisions, target = promoted(step(source, is_source_finished=True))
    assert [one.reason for one in decisions] == [Reason.RANDOM if slot % 4 == 3 else Reason.LCB for slot in range(8)]
    ranked = sorted(source, key=lambda one: one.attributes["val_bpb"])
    assert decisions[0].source is ranked[0]
    assert {one.source.number for one in decisions} <= {one.number for one in ranked[:8]}
    assert used_slots(target) == 8
    assert decisions[0].chosen.mean is None, "with nothing measured there, a score there would be made up"
    assert decisions[1].chosen.mean is not None and len(decisions[0].alternatives) == 3


def test_slots_open_as_proxies_come_in() -> None:
    source = proxies(16)
    opened = [len(promoted(step(source[:count]))[0]) for count in (0, 4, 8, 12, 15, 16)]
    assert opened == [0, 0, 2, 4, 7, 8]


def test_a_lost_proxy_opens_no_slot_before_its_repeat_has_ended() -> None:
    source = proxies(16)
    lost = [replace(one, number=one.number + 16, status=TrialStatus.LOST) for one in source[12:]]
    assert len(promoted(step([*source[:12], *lost]))[0]) == 4


def test_the_same_rows_give_the_same_answer() -> None:
    given = step(proxies(16), is_source_finished=True)
    first, second = promoted(given)[0], promoted(given)[0]
    assert [one.attribute() for one in first] == [one.attribute() for one in second]
    draws = [promoted(replace(given, draw=f"study {number}"))[0] for number in range(5)]
    assert len({decisions[3].source.number for decisions in draws}) > 1, "and other studies draw others"


def test_the_best_and_the_worst_named_recipe_come_first() -> None:
    source = proxies(16)[:4]
    named = frozenset(one.attributes["recipe_hash"] for one in source)
    waiting = [*source[:3], replace(source[3], status=TrialStatus.RUNNING)]
    assert promoted(step(waiting, named=named, anchors=2))[0] == []
    decisions, target = promoted(step(source, named=named, anchors=2))
    without_first = step(source, target, named=named, anchors=2, fits=lambda one: one is not decisions[0].source)
    assert promoted(without_first)[0] == [], "another prediction of bytes makes no further anchors"
    ranked = sorted(source, key=lambda one: one.attributes["val_bpb"])
    assert [(one.reason, one.source.number) for one in decisions] == [
        (Reason.ANCHOR, ranked[0].number),
        (Reason.ANCHOR, ranked[3].number),
    ]


@pytest.mark.parametrize(
    ("slots", "named", "wanted", "count"),
    [
        (3, 5, None, 0),
        (4, 5, None, 1),
        (16, 5, None, 4),
        (16, 3, None, 3),
        (64, 30, None, 8),
        (4, 5, 4, 4),
        (2, 9, 6, 2),
    ],
)
def test_a_quarter_of_the_slots_anchors_unless_told(slots: int, named: int, wanted: int | None, count: int) -> None:
    assert num_anchors(slots, named, wanted) == count


def test_feasible_is_what_is_predicted_to_fit() -> None:
    source = [row(0, 1.0), row(1, 1.1, TrialStatus.INFEASIBLE), row(2, 1.2), row(3, None, TrialStatus.FAILED)]
    late = row(4, 0.9, TrialStatus.INFEASIBLE)
    source.append(replace(late, violations={"artifact_bytes": -0.1, "eval_seconds": 0.5}))
    given = step(source, slots=2, is_source_finished=True, fits=lambda one: one.number != 0)
    assert [one.source.number for one in promoted(given)[0]] == [1, 2]


def test_no_architecture_family_takes_more_than_its_share() -> None:
    swiglu = [
        row(number, 1.0 + 0.001 * number, recipe=recipe_of(number, **{"model.mlp": "swiglu"})) for number in range(10)
    ]
    source = [*swiglu, *(row(10 + number, 1.05, recipe=recipe_of(number)) for number in range(2))]
    decisions = promoted(step(source, slots=4, is_source_finished=True))[0]
    kinds = [one.source.number < 10 for one in decisions if one.reason is Reason.LCB]
    assert kinds == [True, True, True], "a family with no candidate in the better half has no claim"
    source[8:10] = []
    decisions = promoted(step(source, slots=4, is_source_finished=True))[0]
    assert [one.source.number < 10 for one in decisions if one.reason is Reason.LCB] == [True, True, True]
    near = [*swiglu[:4], *source[-2:]]
    decisions = promoted(step(near, slots=6, is_source_finished=True))[0]
    assert [one.source.number < 10 for one in decisions][:4] == [True, True, True, False]


def test_further_seeds_go_to_the_two_best_once_every_slot_is_used() -> None:
    decisions, target = promoted(step(proxies(16), slots=3, seeds=[1, 2, 3], is_source_finished=True))
    assert [one.reason for one in decisions] == [Reason.LCB] * 3 + [Reason.SEEDS] * 4
    best = sorted(target[:3], key=lambda one: one.attributes["val_bpb"])[:2]
    further = {(one.source.attributes["recipe_hash"], one.seed) for one in decisions[3:]}
    assert further == {(one.attributes["recipe_hash"], seed) for one in best for seed in (2, 3)}
    assert all(one.promoted_from.startswith("proxy/") for one in decisions)


def test_further_seeds_weigh_the_chance_that_they_keep_the_bytes() -> None:
    """The second best by score is hardly over the limit's edge with its first seed; the third is small."""
    sizes = (15_000_000, LIMIT - 10, 15_000_000, 15_000_000)
    target = [
        row(number, 1.2 + 0.002 * number, rung="full", decision={"reason": "lcb"}, **sized(size))
        for number, size in enumerate(sizes)
    ]
    given = step(proxies(16), target, slots=4, seeds=[1, 2, 3, 4], is_source_finished=True)
    first = model_decisions(given)
    assert [(one.source.number, one.seed) for one in first] == [(name, seed) for name in (0, 2) for seed in (2, 3, 4)]


def test_recipes_chosen_for_further_seeds_stay_so() -> None:
    """Their seeds teach how bytes scatter; others would begin and never be paid for."""
    target = [
        row(number, 1.2 + 0.001 * number, rung="full", decision={"reason": "lcb"}, **sized(15_990_000 - number))
        for number in range(4)
    ]
    given = step(proxies(16), target, slots=4, seeds=[1, 2, 3], is_source_finished=True)
    chosen = {one.source.number for one in model_decisions(given)}
    lone = model_decisions(given)[0]
    over = row(
        4,
        1.2,
        TrialStatus.INFEASIBLE,
        rung="full",
        recipe=lone.source.recipe,
        seed=2,
        decision={"reason": "seeds"},
        **sized(16_900_000),
    )
    later = model_decisions(replace(given, target=[*target, over]))
    assert lone.source.number in {one.source.number for one in later}
    assert len({one.source.number for one in later}) == len(chosen) == 2


def test_what_a_user_promoted_takes_no_slot() -> None:
    source = proxies(16)
    own = row(0, 1.0, rung="full", recipe=source[5].recipe, decision={"reason": "user"})
    before = row(1, 1.0, rung="full", recipe=source[6].recipe)  # from before decisions were kept
    assert used_slots([own]) == 0 and used_slots([own, before]) == 1
    decisions, _ = promoted(step(source, [own, before], slots=3, is_source_finished=True))
    assert len(decisions) == 2
    assert not {5, 6} & {one.source.number for one in decisions}


def test_the_plain_rule_takes_the_best_at_the_end_with_every_seed() -> None:
    source = proxies(16)
    given = step(source, slots=2, seeds=[1, 2])
    assert top_decisions(given) == []
    decisions, _ = promoted(replace(given, is_source_finished=True), top_decisions)
    ranked = sorted(source, key=lambda one: one.attributes["val_bpb"])
    assert [(one.source, one.seed) for one in decisions] == [(one, seed) for one in ranked[:2] for seed in (1, 2)]


def test_the_plain_rule_goes_by_predicted_bytes_too() -> None:
    source = sorted(proxies(16), key=lambda one: one.attributes["val_bpb"])
    over = replace(source[1], status=TrialStatus.INFEASIBLE, violations={"artifact_bytes": 0.01})
    given = step([source[0], over, *source[2:]], slots=2, is_source_finished=True, fits=lambda one: one != source[0])
    decisions, target = promoted(given, top_decisions)
    assert [one.source for one in decisions] == [over, source[2]]
    assert top_decisions(replace(given, target=target, fits=lambda one: True)) == [], "another prediction adds none"
