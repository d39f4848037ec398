"""A stored study's definition reads back, may grow, and is refused where it differs."""

from typing import Any

import pytest
from simulation import make_spec

from search.errors import SpecError, StoreError
from search.store import (
    check_definition,
    define_rung,
    load_rungs,
    open_rung,
    open_storage,
    stored_definition,
    stored_spec,
    study_names,
)


def save(storage: Any, **changes: Any) -> None:
    spec = make_spec(**changes)
    check_definition(storage, spec)
    for rung in spec.rungs:
        define_rung(open_rung(storage, f"{spec.name}/{rung.name}", spec.objectives), spec, rung)


def rungs(trials: int = 4, promote: int = 2, tokens: int = 1000) -> list[dict[str, Any]]:
    return [
        {"name": "proxy", "budget": {"train_tokens": tokens}, "trials": trials},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": promote},
    ]


def test_a_stored_study_reads_back(url: str) -> None:
    storage = open_storage(url)
    save(storage)
    save(storage, name="other")
    assert study_names(storage) == ["other", "sim"]
    assert stored_spec(storage, "sim") == make_spec()
    assert list(load_rungs(storage, "sim")) == ["proxy", "full"]
    assert stored_definition(storage, "sim")["rungs"][0]["trials"] == 4
    with pytest.raises(StoreError, match="expected a study nope, got only: other, sim"):
        load_rungs(storage, "nope")


def test_trials_and_promote_may_grow(url: str) -> None:
    storage = open_storage(url)
    save(storage, rungs=rungs())
    save(storage, rungs=rungs(trials=6, promote=3))
    assert stored_definition(storage, "sim")["rungs"][0]["trials"] == 6
    with pytest.raises(SpecError, match=r"rungs\.0\.trials"):
        save(storage, rungs=rungs(trials=5, promote=3))


def test_another_definition_is_refused_by_the_key_that_differs(url: str) -> None:
    storage = open_storage(url)
    save(storage)
    for changes, key in (
        ({"rungs": rungs(tokens=2000)}, "rungs.0.budget.train_tokens"),
        ({"objectives": ["val_bpb"]}, "objectives"),
        ({"set": {"model.model_dim": 256}}, "recipe.model.model_dim"),
    ):
        with pytest.raises(SpecError, match=f"study sim: .*{key}"):
            save(storage, **changes)
    assert stored_spec(storage, "sim") == make_spec()
