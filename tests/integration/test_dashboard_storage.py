"""What the dashboard reads from: studies of foreign code, and storage that is missing or does not answer."""

from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from search.dashboard import ShownStorage, application
from search.errors import StoreError
from search.store import open_storage

MINIMIZE, MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE


@pytest.mark.parametrize("directions", [[MINIMIZE], [MINIMIZE, MINIMIZE], [MAXIMIZE]])
def test_infeasible_trials_of_foreign_code_are_not_best_either(
    tmp_path: Path, directions: list[StudyDirection]
) -> None:
    """Told COMPLETE, as any other code would: the second line of defence."""
    url = f"sqlite:///{tmp_path / 'caddie.db'}"
    study = optuna.create_study(storage=open_storage(url), study_name="foreign", directions=directions)
    better = -1.0 if directions == [MAXIMIZE] else 1.0
    for value, violation in ((3.0, -0.5), (2.0, 0.0), (1.0, 0.1)):
        trial = study.ask()
        trial.set_constraint("artifact_bytes", violation)
        study.tell(trial, [better * value] * len(directions))
    shown = ShownStorage(url)
    study_id = shown.get_study_id_from_name("foreign")
    assert [trial.state for trial in shown.get_all_trials(study_id)][-1] is TrialState.PRUNED
    assert shown.get_n_trials(study_id, TrialState.COMPLETE) == 2
    assert [trial.number for trial in optuna.load_study(study_name="foreign", storage=shown).best_trials] == [1]
    if len(directions) == 1:
        assert shown.get_best_trial(study_id).number == 1


def test_some_trial_is_returned_where_only_infeasible_ones_are_complete(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'caddie.db'}"
    study = optuna.create_study(storage=open_storage(url))
    trial = study.ask()
    trial.set_constraint("artifact_bytes", 0.5)
    study.tell(trial, 1.0)
    assert ShownStorage(url).get_best_trial(1).number == 0


def test_storage_that_is_missing_or_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected an existing database, got none"):
        application(f"sqlite:///{tmp_path / 'none.db'}", tmp_path)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(StoreError, match="expected a database that answers"):
        application(f"sqlite:///{tmp_path / 'text.db'}", tmp_path)
    with pytest.raises(StoreError, match="expected a database that answers"):
        application("postgresql+psycopg://nobody:secret@127.0.0.1:1/none", tmp_path)
