"""Fixtures that several test modules share."""

import os
import shutil
from pathlib import Path

# Before numpy and torch: each of pytest's workers has one core, and arrays are too small to share among threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from search.data import TOKENIZER_NAME, ensure_quickstart_data
from search.shards import ShardWriter, list_shards, read_shard
from search.tokenizer import BOS_ID


@pytest.fixture(scope="session")
def quickstart_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's dataset (vocab 1024), built from the repository's sample: shards and tokenizer.model."""
    folder = tmp_path_factory.mktemp("data") / "quickstart"
    ensure_quickstart_data(folder)
    return folder


@pytest.fixture(scope="session")
def short_documents(quickstart_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of the quickstart's vocabulary whose documents have 10 to 90 tokens, in several shards."""
    folder = tmp_path_factory.mktemp("data") / "short"
    folder.mkdir()
    shutil.copy(quickstart_data / TOKENIZER_NAME, folder)
    lengths = np.random.default_rng(0).integers(10, 90, 400)
    for split, num_tokens in (("train", 12_000), ("val", 2_000)):
        ids = np.array(read_shard(list_shards(quickstart_data, split)[0])[:num_tokens])
        ids[np.cumsum([0, *lengths])[: np.searchsorted(np.cumsum(lengths), num_tokens)]] = BOS_ID
        writer = ShardWriter(folder, split, shard_tokens=5_000)
        writer.write(ids)
        writer.close()
    return folder
