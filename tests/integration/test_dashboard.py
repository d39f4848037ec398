"""The dashboard on a real database: constraints are seen, nothing infeasible is best, nothing can be changed."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
import pytest
from made_trials import made_terms
from served_dashboard import Dashboard
from simulation import measurement

from search.dashboard import Server, ShownStorage, application, serve
from search.errors import RunnerError
from search.notes import write_note
from search.spec_parts import Limits
from search.store import open_artifacts, open_rung, open_storage
from search.study import RungStudy, read_rows
from spaces.recipes import named_recipe
from trainer.result import Failure, FailureKind, Measurement

MEASUREMENT = measurement(val_bpb=1.3, artifact_bytes=15_000_000, train_seconds=500.0, eval_seconds=60.0)
# Trial by trial. 1 and 2 beat every feasible one on the score, 3 on both objectives, and each breaks a limit.
OUTCOMES: tuple[Measurement | Failure, ...] = (
    MEASUREMENT,
    replace(MEASUREMENT, val_bpb=1.10, artifact_bytes=17_000_000),
    replace(MEASUREMENT, val_bpb=1.12, train_seconds=700.0),
    replace(MEASUREMENT, val_bpb=1.11, artifact_bytes=9_000_000, eval_seconds=601.0),
    replace(MEASUREMENT, val_bpb=1.25, artifact_bytes=15_900_000),
    replace(MEASUREMENT, val_bpb=1.35, artifact_bytes=10_000_000),
    Failure(kind=FailureKind.DIVERGED, message="training loss: must be finite, got nan"),
    Failure(kind=FailureKind.MACHINE, message="exit code -9"),
    replace(MEASUREMENT, val_bpb=1.36, artifact_bytes=15_500_000),
)
INFEASIBLE = (1, 2, 3)
PARETO, BEST = (0, 4, 5), 4
BOTH, SCORE = ("val_bpb", "artifact_bytes"), ("val_bpb",)


def fill(
    url: str, runs: Path, name: str, objectives: tuple[str, ...], outcomes: tuple[Measurement | Failure, ...]
) -> None:
    """Ask and tell a rung as the loop does, each trial with a log and its code as artifacts."""
    study = open_rung(open_storage(url), f"{name}/proxy", objectives)
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    rung = RungStudy(study, rung="proxy", objectives=objectives, limits=Limits())
    for outcome in outcomes:
        trial = rung.ask()
        trial.suggest_int("model.num_layers", 4, 12)
        trial.suggest_float("optim.matrix_lr", 1e-3, 1e-1, log=True)
        trial.suggest_categorical("storage.compressor", ("zlib", "lzma", "zstd"))
        rung.describe_recipe(trial.number, named_recipe("naive_baseline"), seed=1337)
        folder = runs / name / "proxy" / str(trial.number)
        folder.mkdir(parents=True)
        (folder / "train.log").write_text(f"step:0/1 of trial {trial.number}\n")
        (folder / "train_gpt.py").write_bytes(b"\xff\x00 not text")
        rung.attach(trial.number, folder, open_artifacts(runs))
        rung.tell(trial.number, outcome, gpu_seconds=1.0)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("dashboard")
    url, runs = f"sqlite:///{folder / 'caddie.db'}", folder / "runs"
    fill(url, runs, "both", BOTH, OUTCOMES)
    fill(url, runs, "score", SCORE, OUTCOMES)
    fill(url, runs, "none", BOTH, OUTCOMES[1:4])
    fill(url, runs, "lone", SCORE, OUTCOMES[1:4])
    with Server(application(url, runs / "artifacts"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Dashboard(url, runs, server.address)
        server.shutdown()
        thread.join()


def numbers(trials: list[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(sorted(trial["number"] for trial in trials))


@pytest.mark.parametrize("name", ["both", "score"])
def test_constraints_and_reasons_reach_the_dashboard(dashboard: Dashboard, name: str) -> None:
    trials = dashboard.study(name)["trials"]
    assert len(trials) == len(OUTCOMES)
    violated = {trial["number"] for trial in trials if any(value > 0 for value in trial["constraints"])}
    assert violated == {*INFEASIBLE, 6}
    assert all(len(trial["constraints"]) == 3 for trial in trials if trial["state"] in {"Complete", "Pruned"})
    for number in INFEASIBLE:
        attributes = {item["key"]: item["value"] for item in trials[number]["user_attrs"]}
        assert "must be at most" in attributes["reason"]
        assert next(iter(attributes)) == "reason"
        assert trials[number]["state"] == "Pruned"
    assert [trials[6]["state"], trials[7]["state"]] == ["Pruned", "Fail"]
    assert "values" not in trials[6]


def test_infeasible_trials_show_what_they_measured(dashboard: Dashboard) -> None:
    assert dashboard.study("both")["trials"][1]["values"] == [1.10, 17_000_000]
    assert dashboard.study("score")["trials"][1]["values"] == [1.10]


def test_best_is_never_infeasible(dashboard: Dashboard) -> None:
    assert numbers(dashboard.study("both")["best_trials"]) == PARETO
    assert numbers(dashboard.study("score")["best_trials"]) == (BEST,)


def test_a_note_says_who_is_most_likely_the_best(dashboard: Dashboard) -> None:
    assert dashboard.study("none")["note"] == {"version": 0, "body": ""}
    study = optuna.load_study(study_name="score/proxy", storage=open_storage(dashboard.url))
    for _ in range(2):  # the second time nothing has changed
        write_note(study, read_rows(study, "proxy"), made_terms())
    note = dashboard.study("score")["note"]
    assert note["version"] == 1
    assert note["body"].startswith(f"Most likely the best: trial {BEST}\n")


def test_nothing_is_best_where_nothing_is_feasible(dashboard: Dashboard) -> None:
    for name in ("none", "lone"):
        study = dashboard.study(name)
        assert study["best_trials"] == []
        assert len(study["trials"]) == 3


@pytest.mark.parametrize(
    "path",
    [
        *("/api/meta", "/api/studies", "/api/studies/{id}?after=3", "/api/studies/{id}/param_importances"),
        *(f"/api/studies/{{id}}/plot/{kind}" for kind in ("contour", "slice", "parallel_coordinate", "rank")),
        *(f"/api/studies/{{id}}/plot/{kind}" for kind in ("edf", "timeline")),
    ],
)
@pytest.mark.parametrize("name", ["both", "score", "none", "lone"])
def test_every_read_answers(dashboard: Dashboard, name: str, path: str) -> None:
    dashboard.get(path.format(id=dashboard.study(name)["id"]))


def test_pages_files_and_csv_are_served(dashboard: Dashboard) -> None:
    study = dashboard.study("both")
    assert dashboard.request("GET", "/")[0] == 302
    for path in ("/dashboard", f"/dashboard/studies/{study['id']}"):
        assert b"<html" in dashboard.request("GET", path)[2]
        status, headers, body = dashboard.request("HEAD", path)
        assert (status, body) == (200, b"")
        assert "script-src 'self'" in headers["Content-Security-Policy"]
    status, _, text = dashboard.request("GET", f"/csv/{study['id']}")
    assert status == 200
    assert text.decode().splitlines()[0].startswith("Number,State,val_bpb,artifact_bytes,Param model.num_layers")


def snapshot(runs: Path, url: str) -> tuple[dict[str, bytes], list[str]]:
    """Every artifact, and the database as text."""
    database = Path(url.removeprefix("sqlite:///"))
    files = {path.name: path.read_bytes() for path in (runs / "artifacts").iterdir()}
    with sqlite3.connect(database) as connection:
        return files, list(connection.iterdump())


def test_nothing_can_be_changed(dashboard: Dashboard) -> None:
    study = dashboard.study("both")
    study_id, trial = study["id"], study["trials"][0]
    artifact = trial["artifacts"][0]["artifact_id"]
    before = snapshot(dashboard.runs, dashboard.url)
    paths = [
        "/api/studies",
        f"/api/studies/{study_id}",
        f"/api/studies/{study_id}/rename",
        f"/api/studies/{study_id}/note",
        f"/api/studies/{study_id}/{trial['trial_id']}/note",
        f"/api/trials/{trial['trial_id']}/tell",
        f"/api/trials/{trial['trial_id']}/user-attrs",
        f"/api/artifacts/{study_id}/{trial['trial_id']}",
        f"/api/artifacts/{study_id}/{trial['trial_id']}/{artifact}",
        "/incompatible-rdb-schema",
    ]
    for method in ("DELETE", "POST", "PUT", "PATCH", "OPTIONS", "get", "TRACE"):
        for path in paths:
            status, headers, body = dashboard.request(method, path, b'{"study_name": "x", "directions": ["minimize"]}')
            assert (status, headers["Allow"]) == (405, "GET, HEAD")
            assert "for reading only" in json.loads(body)["reason"]
    assert dashboard.request("POST", "/api/studies", b"x" * 1_000_000)[0] == 405
    assert snapshot(dashboard.runs, dashboard.url) == before


def test_the_connection_itself_refuses_to_write(dashboard: Dashboard) -> None:
    shown = ShownStorage(dashboard.url)
    with pytest.raises(optuna.exceptions.StorageInternalError) as error:
        shown.delete_study(1)
    assert "readonly" in str(error.value.__cause__)
    assert len(shown.get_all_studies()) == 4


def test_artifacts_download(dashboard: Dashboard) -> None:
    study = dashboard.study("both")
    trial = study["trials"][1]
    found = {artifact["filename"]: artifact["artifact_id"] for artifact in trial["artifacts"]}
    assert set(found) == {"train.log", "train_gpt.py"}
    path = f"/artifacts/{study['id']}/{trial['trial_id']}"
    assert dashboard.request("GET", f"{path}/{found['train.log']}")[2] == b"step:0/1 of trial 1\n"
    assert dashboard.request("GET", f"{path}/{found['train_gpt.py']}")[2] == b"\xff\x00 not text"
    assert dashboard.request("GET", f"{path}/00000000-0000-0000-0000-000000000000")[0] == 404


def test_a_missing_artifact_file_is_not_found_and_says_where(dashboard: Dashboard, tmp_path: Path) -> None:
    study = dashboard.study("both")
    trial = study["trials"][0]
    with Server(application(dashboard.url, tmp_path / "elsewhere"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        path = f"/artifacts/{study['id']}/{trial['trial_id']}/{trial['artifacts'][0]['artifact_id']}"
        status, _, body = replace(dashboard, address=server.address).request("GET", path)
        server.shutdown()
        thread.join()
    assert status == 404
    assert f"{tmp_path / 'elsewhere'}: expected the artifact&#039;s file" in body.decode()


def test_a_new_study_appears_while_it_serves(dashboard: Dashboard) -> None:
    known = len(dashboard.get("/api/studies")["study_summaries"])
    study = optuna.create_study(storage=open_storage(dashboard.url), study_name="later")
    assert len(dashboard.get("/api/studies")["study_summaries"]) == known + 1
    optuna.delete_study(study_name=study.study_name, storage=open_storage(dashboard.url))


def test_serving_is_announced_on_loopback_and_ends_on_ctrl_c(dashboard: Dashboard) -> None:
    addresses: list[str] = []

    def interrupt(address: str) -> None:
        addresses.append(address)
        raise KeyboardInterrupt

    serve(dashboard.url, dashboard.runs, port=0, announce=interrupt)
    [address] = addresses
    assert address.startswith("http://127.0.0.1:")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(address).port or 0)) != 0


def test_a_taken_port_is_one_clear_line(dashboard: Dashboard) -> None:
    port = urlsplit(dashboard.address).port or 0
    with pytest.raises(RunnerError, match=rf"dashboard 127\.0\.0\.1:{port}: expected a free address .*in use"):
        serve(dashboard.url, dashboard.runs, port=port)
    with pytest.raises(RunnerError, match="expected a free address"):
        serve(dashboard.url, dashboard.runs, host="203.0.113.7")
    with pytest.raises(RunnerError, match="expected a free address"):
        serve(dashboard.url, dashboard.runs, port=65_536)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_page_works_in_a_browser(dashboard: Dashboard, tmp_path: Path) -> None:
    page = f"{dashboard.address}dashboard/studies/{dashboard.study('score')['id']}"
    options = ["--headless", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # it refuses to run as root with one
    options += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom", page]
    command = [str(CHROMIUM), *options]
    page_text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert f"Best Trial (number={BEST})" in page_text
    assert "Hyperparameter Importance" in page_text
