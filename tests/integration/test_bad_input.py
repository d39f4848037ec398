"""The real command on bad input: one clear line and exit code 2, at once, with nothing lost or left half-made."""

import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from simulation import Machine, World, make_spec, measurement

from search.preflight import SAMPLE_TOKENS
from search.shards import HEADER_BYTES
from trainer.result import Failure, Measurement

CLOSED_PORT = "postgresql+psycopg://caddie:secret@127.0.0.1:1/caddie"
STUDY = """\
name: tiny
set:
  model.num_layers: 2
  model.model_dim: 32
  model.num_heads: 2
  model.num_kv_heads: 1
  schedule.train_seq_len: 64
  schedule.train_batch_tokens: 512
  quant.passthrough_numel: 512
space:
  params:
    optim.matrix_lr: {low: 0.02, high: 0.12, log: true}
data:
  path: data
  tokenizer: data/tokenizer.model
rungs:
  - name: proxy
    budget: {train_tokens: 1024, eval_tokens: 512}
    trials: 2
"""


@pytest.fixture
def work(tmp_path: Path, quickstart_data: Path) -> Path:
    """A working folder with a dataset that may be damaged, and a study file that is right."""
    folder = tmp_path / "work"
    shutil.copytree(quickstart_data, folder / "data")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def sim_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two rungs, named sim; its runs were simulated."""
    return finished(tmp_path_factory.mktemp("sim")).folder / "caddie.db"


@pytest.fixture
def sim(work: Path, sim_database: Path) -> None:
    """That study in the working folder's database, with a runs folder as it would have left it."""
    (work / "runs" / "artifacts").mkdir(parents=True)
    shutil.copyfile(sim_database, work / "caddie.db")


def finished(work: Path, world: World | None = None, **changes: Any) -> Machine:
    """A study in a folder's database, driven to its end; its connections are closed, so that the file is whole."""
    machine = Machine(work, make_spec(**changes), world or World())
    machine.run()
    machine.ledger.close()
    machine.storage.engine.dispose()
    return machine


def caddie(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CADDIE_")}
    command = [sys.executable, "-m", "search", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


def refusal(folder: Path, *arguments: str) -> str:
    """The one line that a command ends with."""
    return line_of(caddie(folder, *arguments))


def early_refusal(folder: Path, *arguments: str) -> str:
    """The same of a command that must not have changed anything in its folder, nor have started Ray."""
    before = contents(folder)
    done = caddie(folder, *arguments)
    line = line_of(done)
    assert "Ray" not in done.stdout
    assert contents(folder) == before
    return line


def line_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("caddie: "), done.stderr
    assert "bug" not in done.stderr and "secret" not in done.stderr
    return done.stderr.rstrip("\n")


def contents(folder: Path) -> Mapping[str, str]:
    """Every file and folder with what it holds; of a database, its rows."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".db":
            with sqlite3.connect(path) as connection:
                found[str(path)] = "\n".join(connection.iterdump())
        elif not path.name.endswith(("-wal", "-shm")):
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def edit_study(work: Path, old: str, new: str) -> None:
    assert old in STUDY
    (work / "study.yaml").write_text(STUDY.replace(old, new), encoding="utf-8")


# Study files

H100 = "trials: 2\n    accelerator: H100"
STUDY_FILES = {
    "misspelt key": ("name: tiny", "nmae: tiny", ":1: nmae: must be one of name, .*did you mean name.*got nmae"),
    "unknown key": ("name: tiny", "name: tiny\nowner: me", ":2: owner: must be one of name, .* got owner"),
    "rung": ("trials:", "trails:", r":19: rungs\[0\]\.trails: must be one of .*did you mean trials"),
    "budget": ("{train_tokens", "{train_token", r":18: rungs\[0\]\.budget\.train_token: .*did you mean train_tokens"),
    "param": ("optim.matrix_lr", "optim.matrx_lr", r":12: space\.params\.optim\.matrx_lr: must be a field of Recipe"),
    "vocabulary": ("optim.matrix_lr", "model.vocab_size", r":12: space\.params\.model\.vocab_size: must be left out"),
    "set": (
        "num_kv_heads: 1",
        "num_kv_heads: 3",
        r": set\.model\.num_heads: must be a multiple of num_kv_heads 3, got 2",
    ),
    "queue": (
        "space:",
        "queue: [set: {model.num_heads: 3}]\nspace:",
        r":10: queue\[0\]\.set\.model\.model_dim: must be",
    ),
    "type": ("num_layers: 2", "num_layers: two", r":3: set\.model\.num_layers: must be a whole number, got 'two'"),
    "world size": ("eval_tokens: 512", "world_size: 3", r":18: rungs\[0\]\.budget\.world_size: must divide 8, got 3"),
    "yaml": ("name: tiny", "name: [tiny", ":2: must be valid YAML, got: "),
    "machine": ("trials: 2", H100, " rung proxy: expected 1 GPU of kind H100 on one node, got this machine with "),
    "machine, processes": (
        "eval_tokens",
        "world_size: 8, eval_tokens",
        " expected 8 CPUs on one node, got this machine",
    ),
}


@pytest.mark.parametrize("case", STUDY_FILES)
def test_a_wrong_study_file_costs_nothing(work: Path, case: str) -> None:
    if case == "machine, processes" and (os.cpu_count() or 1) >= 8:
        pytest.skip("this machine holds 8 processes")
    old, new, expected = STUDY_FILES[case]
    edit_study(work, old, new)
    line = early_refusal(work, "run", "study.yaml") if "machine" not in case else refusal(work, "run", "study.yaml")
    assert_matches(expected, line)
    assert ("study.yaml" in line) != ("machine" in case)
    if "machine" in case:  # the study was not made: it may still change
        assert "No study yet" in caddie(work, "status").stdout


def test_a_study_file_that_is_missing(work: Path) -> None:
    assert "nosuch.yaml: must be a file that can be read, got No such file" in early_refusal(work, "run", "nosuch.yaml")


def test_another_definition_leaves_the_study_alone(work: Path, sim: None) -> None:
    edit_study(work, "name: tiny", "name: sim")
    line = early_refusal(work, "run", "study.yaml")
    assert_matches(r"study sim: expected the definition it was started with, but recipe\.model\.num_layers was 9", line)
    assert line.endswith("give the new one another name")


# Data


def cut_short(data: Path) -> None:
    path = data / "fineweb_train_000000.bin"
    path.write_bytes(path.read_bytes()[:-2])


def remove_shard_between(data: Path) -> None:
    for index in (1, 3):
        shutil.copyfile(data / "fineweb_train_000000.bin", data / f"fineweb_train_{index:06d}.bin")


def change(data: Path, split: str, edit: Callable[[Any], None]) -> None:
    path = data / f"fineweb_{split}_000000.bin"
    ids = np.memmap(path, dtype="<u2", mode="r+", offset=HEADER_BYTES)
    edit(ids)
    ids.flush()


def put_large_id(data: Path) -> None:
    def edit(ids: Any) -> None:
        ids[5] = 60_000

    change(data, "val", edit)


def shuffle_pieces(data: Path) -> None:
    """Ids in range that stand for other pieces, as of another tokenizer of the same size."""

    def edit(ids: Any) -> None:
        ids[:] = np.where(ids > 300, 1023 - (ids - 301), ids)

    change(data, "val", edit)


def rename_space_piece(data: Path) -> None:
    space, other = (b"\x0a\x03" + piece.encode() + b"\x15" for piece in "▁▂")  # a protobuf string field, then its score
    path = data / "tokenizer.model"
    path.write_bytes(path.read_bytes().replace(space, other))


BROKEN_DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "folder": (shutil.rmtree, r"/data: expected a folder of shards, got none; see caddie data build --help"),
    "split": (lambda data: (data / "fineweb_val_000000.bin").unlink(), r"/data: expected fineweb_val_\*\.bin, got no"),
    "shard": (remove_shard_between, r"train_000002\.bin: expected a shard before train shard 3, got no such file"),
    "truncated": (cut_short, r"train_000000\.bin: length in bytes: expected \d+, got \d+"),
    "ids": (put_large_id, r"val_000000\.bin: shard of another vocabulary: expected ids below 1024, got 60000"),
    "pieces": (shuffle_pieces, r"val_000000\.bin: shard of another vocabulary: .* same tokens, got 0 such of "),
    "space piece": (rename_space_piece, r"tokenizer\.model: expected a stand-alone space piece, got none"),
    "tokenizer": (
        lambda data: (data / "tokenizer.model").unlink(),
        r"tokenizer\.model: expected a SentencePiece model",
    ),
}


@pytest.mark.parametrize("case", BROKEN_DATA)
def test_broken_data_is_noticed_before_anything_starts(work: Path, case: str) -> None:
    damage, expected = BROKEN_DATA[case]
    damage(work / "data")
    assert_matches(expected, early_refusal(work, "run", "study.yaml"))


@pytest.mark.parametrize("case", ["folder", "space piece"])
def test_broken_data_makes_no_run_folder(work: Path, case: str) -> None:
    damage, expected = BROKEN_DATA[case]
    damage(work / "data")
    assert_matches(expected.removeprefix("/"), early_refusal(work, "train", "naive_baseline", "--data", "data"))


def test_broken_data_stops_a_promotion(work: Path, sim: None) -> None:
    cut_short(work / "data")
    assert_matches(BROKEN_DATA["truncated"][1], early_refusal(work, "promote", "sim", "--trial", "3"))


def test_a_tokenizer_of_another_size(work: Path) -> None:
    edit_study(work, "set:", "set:\n  model.vocab_size: 2048")
    line = early_refusal(work, "run", "study.yaml")
    assert line.endswith("data/tokenizer.model: expected a vocabulary of model.vocab_size 2048, got 1024")


@pytest.mark.timeout(300)
def test_a_study_goes_on_when_its_data_is_repaired(work: Path) -> None:
    """The damage lies beyond what is looked at beforehand: the first trial finds it, on a real Ray."""
    study = STUDY.replace("train_batch_tokens: 512", "train_batch_tokens: 2048").replace("trials: 2", "trials: 1")
    (work / "study.yaml").write_text(study.replace("train_tokens: 1024", "train_tokens: 18_432"), encoding="utf-8")
    whole = (work / "data" / "fineweb_train_000000.bin").read_bytes()

    def edit(ids: Any) -> None:
        ids[SAMPLE_TOKENS + 1000] = 60_000

    change(work / "data", "train", edit)
    line = refusal(work, "run", "study.yaml")
    assert_matches(r"proxy: .*train_000000\.bin: shard of another vocabulary: expected ids below 1024, got 60000", line)
    (work / "data" / "fineweb_train_000000.bin").write_bytes(whole)
    done = caddie(work, "run", "study.yaml")
    assert done.returncode == 0, done.stderr
    assert "Finished." in done.stdout
    trials = optuna.load_study(study_name="tiny/proxy", storage=f"sqlite:///{work}/caddie.db").get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]  # the first recipe, and it again
    assert trials[0].user_attrs["recipe_hash"] == trials[1].user_attrs["recipe_hash"]
    again = caddie(work, "run", "study.yaml")
    assert again.returncode == 0
    assert "Ray" not in again.stdout  # nothing is left to run


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


def assert_matches(pattern: str, line: str) -> None:
    with pytest.raises(ValueError, match=pattern):  # shows both where they differ
        raise ValueError(line)
