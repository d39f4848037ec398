"""What is looked at before anything is started: data that no run could train on, a machine that no run fits.

Needs neither torch nor Ray, and takes well under a second: a trial would notice too, but a minute later.
"""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from search.cluster import Need, Resources, count_gpus, count_slots, describe
from search.data_check import Dataset, check_manifest, count_same
from search.errors import DatasetError, RunnerError
from search.shards import list_shards, read_shard
from search.tokenizer import has_space_piece, load_tokenizer

SAMPLE_TOKENS = 16_384  # of each shard; runs look at every token they use
SAMPLE_DOCUMENTS = 20
WSL_GPU = Path("/dev/dxg")  # where a Windows host keeps its GPUs


def check_data(folder: Path, tokenizer: Path, vocab_sizes: Iterable[int]) -> None:
    """Refuse a dataset with which every run would fail, or be scored wrong.

    Args:
        vocab_sizes: model.vocab_size of the recipes to be run.

    Raises:
        DatasetError: a shard is missing, cut short or of another vocabulary, or the tokenizer is missing, has no
            stand-alone space piece or is not the one of the recipes.
    """
    shards = {split: [(p.name, read_shard(p)) for p in list_shards(folder, split)] for split in ("train", "val")}
    model = load_tokenizer(tokenizer)
    if not has_space_piece(model):
        raise DatasetError(f"{tokenizer}: expected a stand-alone space piece, got none: BPB would be too good")
    size = model.vocab_size()
    for vocab_size in vocab_sizes:
        if vocab_size != size:
            raise DatasetError(f"{tokenizer}: expected a vocabulary of model.vocab_size {vocab_size}, got {size}")
    for name, ids in (part for parts in shards.values() for part in parts):
        if (largest := int(ids[:SAMPLE_TOKENS].max())) >= size:
            raise DatasetError(
                f"{folder / name}: shard of another vocabulary: expected ids below {size}, got {largest}"
            )
    dataset = Dataset(model, shards)
    for check in check_manifest(folder, tokenizer, dataset):
        if not check.ok:
            raise DatasetError(check.detail)
    _check_text(folder, tokenizer, dataset)


def _check_text(folder: Path, tokenizer: Path, dataset: Dataset) -> None:
    """Refuse shards whose ids are in range but of another vocabulary."""
    name, ids = dataset.shards["val"][0]
    head = Dataset(dataset.tokenizer, {"val": [(name, ids[:SAMPLE_TOKENS])]})
    documents = [document.tolist() for document in islice(head.documents("val"), SAMPLE_DOCUMENTS + 1)]
    sample = documents[:-1]  # the last may be cut
    same = count_same(dataset.tokenizer, sample)
    if 2 * same < len(sample):
        raise DatasetError(
            f"{folder / name}: shard of another vocabulary: expected documents that {tokenizer} encodes to the same"
            f" tokens, got {same} such of {len(sample)}"
        )


def check_machine(rung: str, world_size: int, accelerator: str | None) -> None:
    """Refuse a run that this machine cannot hold; Ray itself, which may find less, is asked later.

    Raises:
        RunnerError: it needs GPUs, or more processes, and there are fewer.
    """
    if WSL_GPU.exists():
        return
    machine: Resources = {"CPU": float(os.cpu_count() or 1), "GPU": float(count_gpus())}
    on_gpus = Need(num_cpus=0, num_gpus=world_size, accelerator=None)
    on_cpus = Need(num_cpus=world_size, num_gpus=0, accelerator=None)
    wanted = [on_gpus] if accelerator is not None else [on_gpus, on_cpus]
    if not any(count_slots([machine], [], need) for need in wanted):
        need = Need(num_cpus=0, num_gpus=world_size, accelerator=accelerator) if accelerator else on_cpus
        raise RunnerError(f"rung {rung}: expected {need}, got this machine with {describe([machine])}")
