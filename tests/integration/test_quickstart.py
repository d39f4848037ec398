"""The quickstart, shortened, through the real command: killed and resumed, promoted, exported, verified, read back.

Real text, real Ray, real SQLite. The last rung keeps half of the quickstart's tokens, since it has to have learned.
"""

import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sentencepiece as spm
from commands import caddie, place_quickstart

from search.data_check import piece_bytes
from search.ledger import Ledger
from search.run_record import RunState
from search.shards import list_shards, read_shard

TRIALS = 4
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, quickstart_data: Path) -> Path:
    """A working folder with the quickstart's data and a shortened copy of its study file."""
    folder = tmp_path_factory.mktemp("work")
    place_quickstart(folder, quickstart_data, TRIALS)
    return folder


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    """The study: its driver is killed without warning once a trial has finished, and started again."""
    command = [sys.executable, "-m", "search", "run", "quickstart.yaml"]
    driver = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not [run for run in runs_of(place) if run.state is RunState.FINISHED]:
        assert driver.poll() is None, "the driver ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.5)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = {run.run_id for run in runs_of(place) if run.state is RunState.FINISHED}
    output = caddie(place, "run", "quickstart.yaml")
    assert "Finished." in output
    after = {run.run_id for run in runs_of(place) if run.state is RunState.FINISHED}
    assert before <= after
    return place


def runs_of(place: Path) -> list[Any]:
    if not (place / "caddie.db").exists():
        return []
    ledger = Ledger.open(f"sqlite:///{place / 'caddie.db'}")
    try:
        return ledger.runs("quickstart")
    finally:
        ledger.close()


def status_of(place: Path) -> dict[str, Any]:
    return json.loads(caddie(place, "status", "quickstart", "--json"))


def test_every_trial_is_there_once_after_the_driver_was_killed(finished: Path) -> None:
    proxy, full = status_of(finished)["rungs"]
    counted = [one for one in proxy["finished"] if one["status"] in {"feasible", "infeasible", "failed"}]
    assert len(counted) == TRIALS
    assert proxy["finished"][0]["trial"] == 0
    assert full["trials"] == {"feasible": 1}
    assert full["finished"][0]["promoted_from"] == f"proxy/{proxy['best']['trial']}"
    ends = Counter(run.run_id for run in runs_of(finished) if run.state is RunState.FINISHED)
    assert set(ends.values()) == {1}


def test_starting_a_finished_study_again_changes_nothing(finished: Path) -> None:
    before = status_of(finished)
    caddie(finished, "run", "quickstart.yaml")
    assert status_of(finished) == before


def test_the_best_trial_learned(finished: Path, quickstart_data: Path) -> None:
    proxy, full = status_of(finished)["rungs"]
    assert full["best"]["val_bpb"] <= unigram_bpb(quickstart_data) - 0.5
    base = next(one for one in proxy["finished"] if one["trial"] == 0)
    assert proxy["best"]["val_bpb"] <= base["val_bpb"]


def test_proxies_ran_the_sequences_that_their_rung_sets(finished: Path) -> None:
    for run in runs_of(finished):
        if run.state is RunState.FINISHED:
            logged = re.search(r"^recipe:(\{.*\})", (Path(run.folder) / "train.log").read_text(), re.M)
            assert logged is not None
            expected = {"proxy": 128, "full": 256}[run.rung]
            assert json.loads(logged[1])["schedule"]["train_seq_len"] == expected


def unigram_bpb(data: Path) -> float:
    """Bits per byte of validation tokens drawn by their frequency in training, one added to every count."""
    train, val = (np.concatenate([read_shard(path) for path in list_shards(data, split)]) for split in ("train", "val"))
    tokenizer = spm.SentencePieceProcessor(model_file=str(data / "tokenizer.model"))
    counts = np.bincount(train, minlength=tokenizer.vocab_size()) + 1.0
    nats = -np.log(counts / counts.sum())
    targets = val[1:]
    pairs = zip(val.tolist(), targets.tolist(), strict=False)
    return float(nats[targets].sum() / math.log(2) / sum(piece_bytes(tokenizer, one, other) for one, other in pairs))


def test_plain_optuna_reads_the_studies(finished: Path) -> None:
    storage = f"sqlite:///{finished / 'caddie.db'}"
    assert sorted(optuna.get_all_study_names(storage)) == ["quickstart/full", "quickstart/proxy"]
    study = optuna.load_study(study_name="quickstart/proxy", storage=storage)
    assert study.metric_names == ["val_bpb", "artifact_bytes"]
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert complete
    for trial in complete:
        assert trial.values == [trial.user_attrs["val_bpb"], trial.user_attrs["artifact_bytes"]]
        assert set(trial.constraints) == {"artifact_bytes", "train_seconds", "eval_seconds"}
        assert max(trial.constraints.values()) <= 0
        assert len(trial.user_attrs) <= 25
    assert {trial.number for trial in study.best_trials} <= {trial.number for trial in complete}


def test_the_exported_folder_verifies_and_runs_elsewhere_to_the_last_digit(finished: Path, tmp_path: Path) -> None:
    caddie(finished, "export", "quickstart", "--out", "out", "--author", "A", "--github-id", "a")
    records = {run.seed: run for run in runs_of(finished) if run.rung == "full"}
    for seed, record in records.items():
        log = (finished / "out" / f"train_seed{seed}.log").read_bytes()
        assert hashlib.sha256(log).hexdigest() == record.log_sha256
    (pair,) = status_of(finished)["rank_correlations"]
    assert (
        f"- `proxy` to `full`: too few for one, which needs 3 ({pair['recipes']} recipes in both)"
        in (finished / "out" / "README.md").read_text()
    )
    moved = tmp_path / "moved"
    (finished / "out").rename(moved)
    output = caddie(finished, "verify", str(moved), "--rerun", "--unsafe")
    assert output.rstrip().endswith("valid")
    submission = json.loads((moved / "submission.json").read_text())
    full = status_of(finished)["rungs"][1]["best"]
    assert submission["val_bpb"] == full["val_bpb"]
    assert submission["bytes_total"] == full["artifact_bytes"]


def test_a_study_on_a_cpu_is_no_record_and_the_command_says_why(finished: Path) -> None:
    command = ["export", "quickstart", "--out", "record", "--author", "A", "--github-id", "a", "--track", "record"]
    done = subprocess.run(
        [sys.executable, "-m", "search", *command], cwd=finished, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("caddie: track record: 4 rule(s) fail: seeds: expected at least 3 seeds")
    for rule in ("hardware: ", "validation: expected the whole validation split scored", "reference: "):
        assert f"; {rule}" in done.stderr
    assert not (finished / "record").exists()


def test_an_interrupted_study_says_so_and_goes_on(place: Path, finished: Path) -> None:
    """Ctrl-C lets the runs in flight finish; nothing is lost, and the next start asks for no more than is missing."""
    text = (place / "quickstart.yaml").read_text().replace("name: quickstart", "name: interrupted")
    (place / "interrupted.yaml").write_text(text)
    command = [sys.executable, "-m", "search", "run", "interrupted.yaml"]
    driver = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.startswith("interrupted") or "/0:" in line:
            break
    os.kill(driver.pid, signal.SIGINT)
    rest = driver.stdout.read()
    assert driver.wait(120) == 0
    assert "Stopped in rung proxy. Go on with: caddie run interrupted.yaml" in rest
    rungs = json.loads(caddie(place, "status", "interrupted", "--json"))["rungs"]
    assert "running" not in rungs[0]["trials"]
    assert 1 <= sum(rungs[0]["trials"].get(name, 0) for name in ("feasible", "infeasible")) <= 2
