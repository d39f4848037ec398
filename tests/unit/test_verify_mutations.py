"""Every change to a valid folder is refused, or there is a reason why it makes nothing untrue."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from challenge_folders import check, early_log, fields, late_log, refused, result, write
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import MUTATIONS, RUNS

from search.verify.finding import is_valid


def valid_folder(folder: Path, make: Callable[[Any], str]) -> Path:
    """Three seeds, all that can be claimed claimed."""
    results = {str(run.seed): result(run) | {"step_avg_ms": round(run.step_ms, 2)} for run in RUNS}
    compliance = {"train_under_600s": True, "artifact_under_16mb": True, "three_seeds": True}
    values = fields(RUNS, seed_results=results, val_bpb_std=0.00039443, compliance=compliance)
    return write(folder, values, {f"train_seed{run.seed}.log": make(run) for run in RUNS})


@pytest.fixture(scope="module", params=[early_log, late_log])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = valid_folder(tmp_path_factory.mktemp("valid"), request.param)
    assert is_valid(check(folder)), check(folder)
    return folder


@pytest.mark.parametrize("name", MUTATIONS)
def test_changes_are_caught_or_harmless(original: Path, name: str) -> None:
    mutation, examples = MUTATIONS[name]

    @settings(max_examples=examples, deadline=None)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        with TemporaryDirectory() as scratch:
            folder = Path(shutil.copytree(original, Path(scratch) / "folder"))
            reason = mutation(folder, data.draw)
            assert refused(folder) or reason, mutation.__doc__

    run()
