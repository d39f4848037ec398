"""The CUDA path of the loader: the same batches as on the CPU, through pinned memory."""

from pathlib import Path

import pytest
import torch

from trainer.data import SequentialLoader


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_the_device_equal_those_on_the_cpu(quickstart_data: Path) -> None:
    devices = (torch.device("cpu"), torch.device("cuda"))
    on_cpu, on_cuda = (SequentialLoader(quickstart_data, 65_536, 1024, 1024, 0, 1, device) for device in devices)
    for _ in range(20):  # past the end of the shard
        for expected, got in zip(on_cpu.next_batch(), on_cuda.next_batch(), strict=True):
            assert got.device.type == "cuda"
            assert got.dtype == torch.int64
            assert torch.equal(got.cpu(), expected)
