"""What tests on a CUDA device share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def switches_of_a_fresh_process() -> None:
    """Float32 in full and every kind of attention: a run's environment sets other ones for the whole process."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cuda.enable_mem_efficient_sdp(True)
