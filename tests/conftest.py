"""Fixtures that several test modules share."""

from pathlib import Path

import pytest

from search.data import ensure_quickstart_data


@pytest.fixture(scope="session")
def quickstart_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's dataset (vocab 1024), built from the repository's sample: shards and tokenizer.model."""
    folder = tmp_path_factory.mktemp("data") / "quickstart"
    ensure_quickstart_data(folder)
    return folder
