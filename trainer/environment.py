"""Where a run executes: ranks, device, number format, paths. Alone in reading the process environment."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch._functorch import config as functorch_config

from trainer.errors import ConfigError, DataError
from trainer.turns import turn_on

RECOMPILE_LIMIT = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """One rank's place in a run.

    Attributes:
        compute_dtype: number format of activations and of weights in matrix products; parameters stay float32.
        is_compiled: whether torch.compile is used; CPU runs stay eager, hence bit-exact and quick to start.
        control_group: gloo group for host-side agreement that must not wait for the device; None on one rank.
        turn_path: file that is locked by whichever run may use the device; None where no other shares it.
    """

    rank: int
    world_size: int
    device: torch.device
    compute_dtype: torch.dtype
    is_compiled: bool
    control_group: dist.ProcessGroup | None
    data_path: Path
    tokenizer_path: Path
    seed: int
    run_id: str
    turn_path: Path | None = None

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """The device as people call it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def synchronize(self) -> None:
        """Wait for the device, so that a host clock read afterwards covers its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def turn(self, *, goes_first: bool = False, is_warm_up: bool = False) -> Generator[None]:
        """Within it, this run alone uses the device, whose other runs have it before or after; see turn_on.

        Args:
            is_warm_up: within it, no other run warms up; one of them may have the device's turn.
        """
        if self.turn_path is None:
            yield
            return
        path = self.turn_path.with_stem(f"{self.turn_path.stem}-warm") if is_warm_up else self.turn_path
        with turn_on(path, goes_first=goes_first) if self.is_main else nullcontext():
            self.barrier()
            yield
            self.synchronize()
            self.barrier()

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.control_group is not None:
            dist.barrier(group=self.control_group)

    def close(self) -> None:
        """Leave the other ranks, all of which have finished; after a failure the launcher ends them instead."""
        if self.control_group is not None:
            dist.destroy_process_group()

    def agree(self, value: float) -> float:
        """Rank 0's value on every rank: ranks that act on their own clocks would drift apart."""
        if self.control_group is None:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, src=0, group=self.control_group)
        return float(shared.item())

    def sum_over_ranks(self, values: list[float]) -> list[float]:
        """Sums over ranks, in float64."""
        if self.control_group is None:
            return values
        shared = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(shared, group=self.control_group)
        return [float(value) for value in shared]

    def sum_tensors(self, tensors: list[torch.Tensor]) -> None:
        """Replace tensors by their sums over ranks."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def average_gradients(self, gradients: list[torch.Tensor]) -> None:
        """Replace gradients by their mean over ranks, through one flat buffer.

        The order of a sum over ranks is the backend's, so ranks agree bit for bit but one rank differs from two.
        """
        if self.world_size == 1:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world_size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def process_variables() -> dict[str, str]:
    """The variables this process was started with."""
    return dict(os.environ)


def read_integer(variables: Mapping[str, str], name: str, default: int) -> int:
    """An integer variable.

    Raises:
        ConfigError: it is set to something else.
    """
    text = variables.get(name, str(default))
    if not text.lstrip("-").isdigit():
        raise ConfigError(f"environment variable {name}: expected an integer, got {text!r}")
    return int(text)


def read_path(variables: Mapping[str, str], name: str) -> Path:
    """A path variable.

    Raises:
        DataError: it is not set, or nothing is there.
    """
    text = variables.get(name)
    if not text:
        raise DataError(f"environment variable {name}: must be set")
    if not Path(text).exists():
        raise DataError(f"environment variable {name}: nothing is at {text}")
    return Path(text).resolve()


def open_device(local_rank: int) -> torch.device:
    """This rank's device, with the process-wide switches for it set once."""
    if not torch.cuda.is_available():
        # One thread: a sum's order, and so its last bits, depends on the number of threads.
        torch.set_num_threads(1)
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    prepare_compiler()
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    if torch.cuda.get_device_capability(device) >= (9, 0):
        # cuDNN attention takes grouped queries natively and runs 1.55x to 1.66x as fast as FA2 on an H100.
        torch.backends.cuda.enable_flash_sdp(False)
    return device


def prepare_compiler() -> None:
    """Let one function have many graphs, and the next run of a host take all of them from the caches on its disk.

    Each flag, shape and mode is a graph, and eight, the default, are too few. Graphs with gradients of our own are else
    not kept before they are cut in two, which is most of a start: their cache's key holds both ways in full.
    """
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    functorch_config.autograd_cache_allow_custom_autograd_functions = True


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware (sm80 on; a 2080 Ti only emulates it)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def open_control_group(device: torch.device, world_size: int) -> dist.ProcessGroup | None:
    """Join the ranks: NCCL between GPUs, gloo otherwise, and a gloo group for host-side agreement."""
    if world_size == 1:
        return None
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    group = dist.new_group(backend="gloo")
    return group if isinstance(group, dist.ProcessGroup) else None


def open_environment(variables: Mapping[str, str]) -> Environment:
    """This rank's environment from RANK, LOCAL_RANK, WORLD_SIZE, DATA_PATH, TOKENIZER_PATH, SEED, RUN_ID, TURN_FILE.

    Raises:
        ConfigError: a variable is not what it should be, or WORLD_SIZE does not divide 8.
        DataError: a path is unset or leads nowhere.
    """
    world_size = read_integer(variables, "WORLD_SIZE", 1)
    if world_size < 1 or 8 % world_size:
        raise ConfigError(f"environment variable WORLD_SIZE: must divide 8, got {world_size}")
    data_path, tokenizer_path = read_path(variables, "DATA_PATH"), read_path(variables, "TOKENIZER_PATH")
    device = open_device(read_integer(variables, "LOCAL_RANK", 0))
    return Environment(
        rank=read_integer(variables, "RANK", 0),
        world_size=world_size,
        device=device,
        compute_dtype=torch.bfloat16 if has_fast_bf16(device) else torch.float32,
        is_compiled=device.type == "cuda",
        control_group=open_control_group(device, world_size),
        data_path=data_path,
        tokenizer_path=tokenizer_path,
        seed=read_integer(variables, "SEED", 1337),
        run_id=variables.get("RUN_ID", "run"),
        turn_path=Path(variables["TURN_FILE"]) if variables.get("TURN_FILE") else None,
    )
