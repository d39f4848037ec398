"""Fixtures that several modules of unit tests share."""

import shutil
from pathlib import Path

import pytest
from synthetic_runs import make_claim
from written_documents import sample_texts, write_documents

from search.data import build_dataset
from search.export.folder import export
from search.ledger import Ledger


@pytest.fixture(scope="session")
def tokenizer(quickstart_data: Path) -> Path:
    return quickstart_data / "tokenizer.model"


@pytest.fixture(scope="session")
def small_dataset(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven validation and 43 training documents of real text."""
    folder = tmp_path_factory.mktemp("small")
    docs = write_documents(folder / "docs.jsonl", sample_texts())
    build_dataset(docs, folder / "dataset", 1024, 7, tokenizer)
    return folder / "dataset"


@pytest.fixture
def dataset(small_dataset: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(small_dataset, tmp_path / "dataset")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid submission of three seeds."""
    folder = tmp_path_factory.mktemp("exported")
    return export(make_claim(folder), folder / "out", with_weights=True)


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(exported, tmp_path / "out"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'caddie.db'}"


@pytest.fixture
def ledger(url: str) -> Ledger:
    return Ledger.open(url)
