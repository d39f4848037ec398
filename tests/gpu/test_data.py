"""The CUDA path of the loader: the same batches as on the CPU, through pinned memory."""

from pathlib import Path

import pytest
import torch

from trainer.loaders import open_loader
from trainer.train_config import Loader


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", Loader)
def test_batches_on_the_device_equal_those_on_the_cpu(quickstart_data: Path, kind: Loader) -> None:
    on_cpu, on_cuda = (
        open_loader(kind, quickstart_data, 65_536, 1024, 1024, 0, 1, torch.device(name), 0) for name in ("cpu", "cuda")
    )
    for _ in range(20):  # past the end of the shard
        for expected, got in zip(on_cpu.next_batch(), on_cuda.next_batch(), strict=True):
            assert got.device.type == "cuda"
            assert got.dtype == torch.int64
            assert torch.equal(got.cpu(), expected)
