"""The launcher's parts: events read as they come, the child's environment, its command."""

import os
from pathlib import Path
from typing import Any

import pytest

from search.child import child_environment, command_of
from search.launch import EventTail
from search.run import Run


def test_a_line_without_its_newline_waits_for_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert not tail.read()
    path.write_text('{"event": "PhaseEntered", "phase": "se')
    assert not tail.read()
    with path.open("a") as file:
        file.write('tup"}\nnot json\n17\n{"event": "Unknown", "phase": "x"}\n')
    assert tail.read()
    assert tail.progress == {"phase": "setup"}
    assert not tail.read()


def a_run(tmp_path: Path, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "run_id": "r",
        "folder": tmp_path,
        "world_size": 1,
        "num_gpus": 0,
        "accelerator": None,
        "environment": {"SEED": "7", "DATA_PATH": "/data"},
        "deadline_seconds": 1.0,
        "storage_url": "sqlite:///x.db",
    }
    return Run(**{**values, **changes})


def test_the_child_sees_the_runs_environment_and_no_one_elses(tmp_path: Path) -> None:
    inherited = {
        "PATH": "/bin",
        "HF_HOME": "/cache",
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "3",
        "MASTER_ADDR": "elsewhere",
        "TORCHELASTIC_RUN_ID": "x",
        "RAY_AUTH_TOKEN": "secret",
        "CADDIE_STORAGE": "postgresql://user:secret@host/db",
        "SEED": "1",
        "RUN_ID": "of another run",
    }
    environment = child_environment(a_run(tmp_path), inherited)
    assert environment == {
        "PATH": "/bin",
        "HF_HOME": "/cache",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "SEED": "7",
        "DATA_PATH": "/data",
    }


def test_a_gpu_run_keeps_the_gpus_that_ray_gave_it(tmp_path: Path) -> None:
    inherited = {"CUDA_VISIBLE_DEVICES": "2,3", "OMP_NUM_THREADS": "1"}
    environment = child_environment(a_run(tmp_path, num_gpus=2, world_size=2), inherited)
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "OMP_NUM_THREADS" not in environment


def test_modules_are_compiled_once_for_all_runs_where_the_installation_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.child.cache_from_source", lambda _source: str(tmp_path / "nothing"))
    environment = child_environment(a_run(tmp_path), {"PYTHONDONTWRITEBYTECODE": "1"})
    assert environment["PYTHONPYCACHEPREFIX"] == str(Path.home() / ".cache" / "caddie" / "bytecode")
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    mine = {"PYTHONPYCACHEPREFIX": "/mine"}
    assert child_environment(a_run(tmp_path), mine)["PYTHONPYCACHEPREFIX"] == "/mine"


def test_the_working_trees_trainer_is_not_on_the_childs_path(tmp_path: Path) -> None:
    (tmp_path / "repository" / "trainer").mkdir(parents=True)
    (tmp_path / "repository" / "trainer" / "config.py").touch()
    path = os.pathsep.join([str(tmp_path / "repository"), "", "/opt/libraries"])
    assert child_environment(a_run(tmp_path), {"PYTHONPATH": path})["PYTHONPATH"] == "/opt/libraries"
    assert "PYTHONPATH" not in child_environment(a_run(tmp_path), {"PYTHONPATH": str(tmp_path / "repository")})


def test_one_process_runs_python_and_several_run_torchrun(tmp_path: Path) -> None:
    assert "torch.distributed.run" not in command_of(a_run(tmp_path), 1)
    command = command_of(a_run(tmp_path, world_size=4), 1)
    assert "--nproc-per-node=4" in command
    assert command[-1] == "train_gpt.py"
