"""The real command on bad input: one clear line and exit code 2, at once, with nothing lost or left half-made."""

import socket
from pathlib import Path

import pytest
from refused_commands import assert_matches, caddie, early_refusal, finished, refusal
from simulation import World, measurement

from trainer.result import Failure, Measurement

CLOSED_PORT = "postgresql+psycopg://caddie:secret@127.0.0.1:1/caddie"
# Storage, folders, ports

STORAGES = {
    CLOSED_PORT: r"caddie:\*\*\*@127\.0\.0\.1:1/caddie: expected a database that answers, got .* refused",
    "foo://somewhere": "foo://somewhere: expected sqlite:///FILE or postgresql.* got foo",
    "caddie.db": "storage: expected a URL such as sqlite:///caddie.db, got caddie.db",
    "sqlite:////no/such/folder/x.db": "got unable to open database file: there is no folder /no/such/folder",
    "sqlite:///study.yaml": "study.yaml: expected a database that answers, got file is not a database",
}


@pytest.mark.parametrize("url", STORAGES)
def test_a_storage_that_cannot_be_used(work: Path, url: str) -> None:
    assert_matches(STORAGES[url], early_refusal(work, "run", "study.yaml", "--storage", url))


@pytest.mark.parametrize(
    "command", ["status", "status tiny", "promote tiny", "export tiny --out x --author A --github-id g", "dashboard"]
)
def test_reading_makes_no_database(work: Path, command: str) -> None:
    line = early_refusal(work, *command.split())
    assert line.endswith("caddie.db: expected an existing database, got none; caddie run makes one")


@pytest.mark.parametrize("command", ["status", "promote", "export --out x --author A --github-id g"])
def test_a_study_that_is_not_there(work: Path, sim: None, command: str) -> None:
    name, *options = command.split()
    line = early_refusal(work, name, "nosuch", *options)
    assert line.endswith("caddie.db: expected a study nosuch, got only: sim")


@pytest.mark.parametrize("command", ["run study.yaml", "train naive_baseline --data data"])
def test_a_runs_folder_that_cannot_be_written(work: Path, command: str) -> None:
    (work / "file").write_text("in the way")
    line = refusal(work, *command.split(), "--runs", "file")
    assert_matches(r"runs folder .*file: must be a folder that can be written, got (File exists|Not a directory)", line)
    assert (work / "file").read_text() == "in the way"
    assert not list(work.glob("runs"))


def test_export_leaves_a_folder_that_exists_alone(work: Path, sim: None) -> None:
    (work / "out").mkdir()
    (work / "out" / "mine.txt").write_text("precious")
    line = early_refusal(work, "export", "sim", "--out", "out", "--author", "A", "--github-id", "g")
    assert line.endswith("/out: expected a new or empty folder, got one that holds something")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "--reference-loss 2 --reference-bpb 1",
            "reference: expected either a loss in nats or bits per byte, got 2 of them",
        ),
        ("--reference-bpb -1", "reference: expected a positive number, got -1.0"),
    ],
)
def test_export_against_no_reference(work: Path, sim: None, options: str, expected: str) -> None:
    line = early_refusal(work, "export", "sim", "--out", "out", "--author", "A", "--github-id", "g", *options.split())
    assert line.endswith(expected)
    assert not (work / "out").exists()


def test_a_port_that_is_taken(work: Path, sim: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = early_refusal(work, "dashboard", "--port", str(port))
    assert_matches(rf"dashboard 127\.0\.0\.1:{port}: expected a free address of this machine, got .*in use", line)


def test_a_ray_that_does_not_answer(work: Path) -> None:
    line = refusal(work, "run", "study.yaml", "--address", "127.0.0.1:1")
    assert_matches("Ray at 127.0.0.1:1: expected one that answers, got ConnectionRefusedError", line)


# Other commands


def over_the_limit(run: object, values: object) -> Measurement | Failure | None:
    return measurement(artifact_bytes=17_000_000)


def test_promotion_without_a_feasible_trial(work: Path) -> None:
    finished(work, World(behaviour=over_the_limit))
    line = early_refusal(work, "promote", "sim")
    assert line == "caddie: promote: needs a feasible trial, got none yet; name one with --trial"
    line = early_refusal(work, "export", "sim", "--out", "x", "--author", "A", "--github-id", "g")
    over = "infeasible artifact_bytes: must be at most 16,000,000, got 17,000,000"
    # They went on, since they were predicted to fit in the end.
    assert line.startswith("caddie: rung full: expected a feasible trial to submit, got trial ")
    assert line.endswith(f" as the best: {over}; --rung chooses another rung")


def test_promotions_that_cannot_be(work: Path) -> None:
    rungs = [
        {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 3},
        {"name": "full", "budget": {"train_tokens": 9000}, "promote": 1, "accelerator": "H100"},
    ]
    machine = finished(work, rungs=rungs)
    promoted = machine.rows("full")[0].attributes["promoted_from"].partition("/")[2]
    other = "0" if promoted != "0" else "1"
    for options, expected in {
        "--rung nosuch": "promote: rung must be one of proxy, full, got nosuch",
        "--rung full": "promote: rung must have a rung after it, got full of proxy, full",
        f"--trial {promoted}": f"promote: trial proxy/{promoted} must be new to full, got it again",
        f"--trial {other}": "rung full: expected 1 GPU of kind H100 on one node, got this machine with ",
    }.items():
        assert expected in early_refusal(work, "promote", "sim", *options.split())


TRAIN = {
    "nosuch": "recipe: must be one of naive_baseline, .* got 'nosuch'",
    "nosuch.json": r"nosuch\.json: expected a recipe as JSON, got No such file or directory",
    "naive_baseline --set model.num_layer=2": "model.num_layer: must be a field of Recipe .did you mean",
    "naive_baseline --set model.num_layers=two": "model.num_layers: must be a whole number, got 'two'",
    "naive_baseline --set model.num_layers=2.5": r"model.num_layers: must be a whole number, got 2\.5",
    "naive_baseline --set model.num_heads=3": "model.model_dim: must be a multiple of num_heads 3, got 512",
    "naive_baseline --set model.num_layers": "--set model.num_layers: expected path=value",
    "naive_baseline --set ema=null --set ema=null": "--set ema: expected once, got None and None",
    "naive_baseline --world-size 3": "budget.world_size: must divide 8, got 3",
    "naive_baseline --seconds 0": "budget.train_seconds: must be positive, got 0",
    "naive_baseline --seconds 9 --tokens 9": "exactly one of train_seconds and train_tokens must be set",
}


@pytest.mark.parametrize("command", TRAIN)
def test_a_run_that_cannot_be(work: Path, command: str) -> None:
    assert_matches(TRAIN[command], early_refusal(work, "train", *command.split(), "--data", "data"))


def test_a_submission_folder_that_is_missing(work: Path) -> None:
    assert early_refusal(work, "verify", "nosuch") == "caddie: nosuch: expected a submission folder, got none"
    assert "nosuch: expected a" in early_refusal(work, "verify", "nosuch", "--rerun")


def test_data_is_never_overwritten_nor_left_half_built(work: Path) -> None:
    (work / "docs.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n{"text": broken\n')
    line = early_refusal(work, "data", "build", "--docs", "docs.jsonl", "--out", "data", "--val-documents", "1")
    assert line == "caddie: data: expected a new folder, got one that exists"
    line = early_refusal(work, "data", "build", "--docs", "docs.jsonl", "--out", "new", "--val-documents", "1")
    assert_matches(r"docs\.jsonl:3: expected a JSON object, got Expecting value", line)
    line = early_refusal(work, "data", "build", "--docs", "docs.jsonl", "--out", "new")
    assert line.endswith("expected either --val-documents COUNT or --val-docs FILE, got neither")
    line = early_refusal(work, "data", "check", "nosuch")
    assert line.startswith("caddie: nosuch: expected a folder of shards, got none")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("statsu", "No such command 'statsu'. Did you mean 'status'?"),
        ("export sim", "Missing option '--out'."),
        ("run study.yaml --max-trials 0", "Invalid value for '--max-trials'"),
    ],
)
def test_usage_errors_say_what_is_wrong(work: Path, command: str, expected: str) -> None:
    done = caddie(work, *command.split())
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: ") and expected in done.stderr
