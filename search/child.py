"""The trainer's processes on this host: their command line, their environment, and that none outlives its run."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import cache_from_source, find_spec
from pathlib import Path

import psutil

from search import guard
from search.cluster import Need
from search.run import CODE_FILE, OUTPUT_FILE, Run

KILL_SECONDS = 10.0
# What the trainer takes from outside comes from the run alone; the rest belongs to Ray, torchrun or the driver, and
# CADDIE_STORAGE may hold a password.
DROPPED_PREFIXES = ("RAY_", "CADDIE_", "TORCHELASTIC_", "GROUP_", "ROLE_", "MASTER_")
DROPPED_VARIABLES = frozenset(
    {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}
    | {"DATA_PATH", "TOKENIZER_PATH", "SEED", "RUN_ID", "TURN_FILE"}
    | {"PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONHOME"}
)
# Of this process's variables, all that an untrusted program may see: none of them holds a secret.
HARMLESS_VARIABLES = frozenset(
    {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "CC", "CXX", "CUDA_HOME", "CUDA_PATH"}
    | {"CUDA_VISIBLE_DEVICES", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_NVLS_ENABLE"}
)


def command_of(run: Run, launcher_pid: int) -> list[str]:
    """The command line of a run: python for one process, torchrun for more, no process outliving its parent."""
    trainer = [sys.executable, CODE_FILE]
    if run.world_size == 1:
        return _guarded(str(launcher_pid), trainer)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={run.world_size}"]
    return _guarded(str(launcher_pid), [*torchrun, "--no-python", *_guarded(guard.OWN_PID, trainer)])


def child_environment(run: Run, inherited: Mapping[str, str]) -> dict[str, str]:
    """The trainer's environment: what this process inherited, less what would change the run, plus the run's own."""
    kept = {
        name: value
        for name, value in inherited.items()
        if name not in DROPPED_VARIABLES and not name.startswith(DROPPED_PREFIXES)
    }
    kept["PYTHONPATH"] = _without_trainer(kept.get("PYTHONPATH", ""))
    if not kept["PYTHONPATH"]:
        del kept["PYTHONPATH"]
    kept |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    if run.num_gpus:
        kept.pop("OMP_NUM_THREADS", None)  # Ray sets it to 1 in its workers; torch and torchrun know better
    else:
        # Ray leaves every GPU visible to a task that asked for none. One thread a process is bit-exact.
        kept |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    bytecode = bytecode_folder()
    if bytecode is not None and "PYTHONPYCACHEPREFIX" not in kept:
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        kept["PYTHONPYCACHEPREFIX"] = str(bytecode)
    if Need.of(run).is_shared:
        kept["TURN_FILE"] = str(turn_file(inherited.get("CUDA_VISIBLE_DEVICES", "")))
    return kept | dict(run.environment)


def untrusted_environment(run: Run, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of somebody else's program: of what this process inherited, only what holds no secret."""
    return child_environment(run, harmless(inherited))


def harmless(inherited: Mapping[str, str]) -> dict[str, str]:
    """Those variables that an untrusted program may see."""
    return {name: value for name, value in inherited.items() if name in HARMLESS_VARIABLES}


def bytecode_folder() -> Path | None:
    """Where runs keep compiled modules if the installation keeps none: to compile torch's anew takes 8 s a run."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None or Path(cache_from_source(torch.origin)).exists():
        return None
    return Path.home() / ".cache" / "caddie" / "bytecode"


def turn_file(devices: str) -> Path:
    """The file that runs on a GPU of this host lock in turn, by what CUDA_VISIBLE_DEVICES calls the GPU."""
    name = re.sub(r"[^\w-]", "_", devices) or "all"
    return Path(tempfile.gettempdir()) / f"caddie-{os.getuid()}-gpu-{name}.turn"


@contextmanager
def process_tree(run: Run, inherited: Mapping[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """The started trainer; on leaving, nothing of it lives.

    Args:
        inherited: variables of this process.
    """
    with (run.folder / OUTPUT_FILE).open("xb") as output:
        process = subprocess.Popen(
            command_of(run, os.getpid()),
            cwd=run.folder,
            env=child_environment(run, inherited),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C at the driver's terminal is not for the trainer
        )
    try:
        yield process
    finally:
        _kill_tree(process)


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the trainer, its group and all its descendants; there is nothing a trainer could still save."""
    descendants: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        descendants = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for descendant in descendants:
        with suppress(psutil.NoSuchProcess):
            descendant.kill()
    process.wait()
    psutil.wait_procs(descendants, timeout=KILL_SECONDS)


def _guarded(parent: str, command: list[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(guard.__file__), parent, *command]


def _without_trainer(python_path: str) -> str:
    """PYTHONPATH less the folders that hold our own trainer package: a run must not see edits of the working tree."""
    folders = [folder for folder in python_path.split(os.pathsep) if folder]
    return os.pathsep.join(folder for folder in folders if not (Path(folder) / "trainer" / "config.py").exists())
