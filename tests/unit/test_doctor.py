"""The doctor's checks, on folders, databases and packages made for the purpose."""

import os
import sqlite3
from pathlib import Path

import pytest

from search.doctor import (
    CheckState,
    check_compressor,
    check_data,
    check_disk,
    check_flash_attention,
    check_python,
    check_ray,
    check_runs_folder,
    check_storage,
    check_torch,
    check_triton,
)

WITH_GPUS = """
class _Gpu:
    def __init__(self, name, major, minor, total_memory):
        self.name, self.major, self.minor, self.total_memory = name, major, minor, total_memory
class cuda:
    device_count = staticmethod(lambda: 2)
    get_device_properties = staticmethod(lambda index: [
        _Gpu("NVIDIA H100 80GB HBM3", 9, 0, 80 * 2**30), _Gpu("RTX 2080 Ti", 7, 5, 11 * 2**30)
    ][index])
class version:
    cuda = "13.0"
__version__ = "2.13.0"
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules the probes import before any installed ones."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_this_python_is_new_enough() -> None:
    assert check_python().state is CheckState.OK


def test_torch_and_each_gpu_are_reported(packages: Path) -> None:
    (packages / "torch.py").write_text(WITH_GPUS)
    torch, first, second = check_torch()
    assert (torch.state, torch.detail) == (CheckState.OK, "2.13.0, CUDA 13.0")
    assert first.detail == "NVIDIA H100 80GB HBM3, 80 GiB, bf16"
    assert second.detail == "RTX 2080 Ti, 11 GiB, no bf16: runs fall back to a slower format"


def test_a_machine_that_only_drives_misses_torch_and_is_told_so(packages: Path) -> None:
    (packages / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    [torch] = check_torch()
    assert torch.state is CheckState.MISSING
    assert "not where a study is driven" in torch.advice


def test_a_package_that_is_there_and_does_not_import_is_broken(packages: Path) -> None:
    (packages / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    (packages / "triton.py").write_text("import os; os.abort()")
    (packages / "flash_attn_interface.py").write_text("raise OSError('undefined symbol')")
    [torch] = check_torch()
    assert (torch.state, torch.detail) == (
        CheckState.BROKEN,
        "ImportError: libcudart.so.13: cannot open shared object file",
    )
    assert check_triton().state is CheckState.BROKEN
    assert check_flash_attention().detail == "OSError: undefined symbol"


def test_flash_attention_is_found_under_either_name(packages: Path) -> None:
    (packages / "flash_attn_interface.py").touch()
    assert check_flash_attention().detail == "flash_attn_interface (FlashAttention 3)"


def test_compressors_are_installed_or_missing() -> None:
    assert check_compressor("zstandard").state is CheckState.OK
    missing = check_compressor("no-such-compressor")
    assert (missing.state, missing.detail) == (CheckState.MISSING, "not installed")
    assert "pip install no-such-compressor" in missing.advice


def test_a_ray_that_does_not_answer_is_broken() -> None:
    check = check_ray(os.environ, "127.0.0.1:1")
    assert check.state is CheckState.BROKEN
    assert check.detail.startswith("Ray at 127.0.0.1:1: expected one that answers")
    assert "reachable" in check.advice


def test_a_new_sqlite_file_is_announced_and_not_made(tmp_path: Path) -> None:
    check = check_storage(f"sqlite:///{tmp_path / 'new.db'}")
    assert (check.state, check.detail) == (CheckState.OK, f"sqlite:///{tmp_path / 'new.db'} will be created")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_database_answers_and_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
    check = check_storage(f"sqlite:///{path}")
    assert (check.state, check.detail) == (CheckState.OK, f"sqlite:///{path} answers")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


@pytest.mark.parametrize(
    "url", ["sqlite:////no/such/folder/x.db", "no url", "postgresql+psycopg://u:secret@127.0.0.1:1/x"]
)
def test_a_storage_that_does_not_answer_is_broken(url: str) -> None:
    check = check_storage(url)
    assert check.state is CheckState.BROKEN
    assert check.advice
    assert "secret" not in check.detail


def test_a_file_that_is_no_database_is_broken(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, and longer than the header of one would be" * 3)
    assert check_storage(f"sqlite:///{tmp_path / 'x.db'}").state is CheckState.BROKEN


def test_the_runs_folder_is_writable_or_can_be_made(tmp_path: Path) -> None:
    assert check_runs_folder(tmp_path).detail == f"{tmp_path} is writable"
    assert check_runs_folder(tmp_path / "a" / "b").detail == f"{tmp_path / 'a' / 'b'} can be made"
    assert list(tmp_path.iterdir()) == []


def test_a_runs_folder_below_a_file_or_in_a_read_only_place_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check_runs_folder(tmp_path / "file" / "runs").state is CheckState.BROKEN
    assert check_runs_folder(Path("/proc/runs")).state is CheckState.BROKEN


def test_the_disk_has_room(tmp_path: Path) -> None:
    check = check_disk(tmp_path / "runs")
    assert "GiB free for" in check.detail
    assert (check.state is CheckState.OK) == (check.advice == "")


def test_data_is_there_or_named_as_missing(tmp_path: Path) -> None:
    check = check_data(tmp_path, tmp_path / "tokenizer.model")
    assert check.state is CheckState.MISSING
    assert check.detail == f"{tmp_path}: no train shards, no val shards, no tokenizer"
    for name in ("fineweb_train_000000.bin", "fineweb_val_000000.bin", "tokenizer.model"):
        (tmp_path / name).touch()
    assert check_data(tmp_path, tmp_path / "tokenizer.model").state is CheckState.OK
