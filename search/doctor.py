"""What works on this machine, what is missing, and what to do about it: checks as data."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from search.cluster import LOCAL_ADDRESS, ray_variables
from search.database import open_engine, resolve_url, shown
from search.errors import StoreError

PROBE_SECONDS = 120.0
DETAIL_CHARACTERS = 300
MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 5 * 2**30
BF16_CAPABILITY = (8, 0)  # a 2080 Ti (7.5) has no bfloat16

# Each runs in a process of its own: torch and Ray must not be loaded by a driver that needs neither here, and one
# that crashes or hangs on this machine is a finding, not the end of the doctor.
TORCH_PROBE = """
import json, torch
gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "gpus": [{"name": gpu.name, "capability": [gpu.major, gpu.minor], "bytes": gpu.total_memory} for gpu in gpus],
}))
"""
FLASH_PROBE = """
import json
try:
    import flash_attn_interface
    name = "flash_attn_interface (FlashAttention 3)"
except ModuleNotFoundError:
    import flash_attn.cute
    name = "flash_attn.cute (FlashAttention 4)"
print(json.dumps({"name": name}))
"""
TRITON_PROBE = "import json, triton; print(json.dumps({'version': triton.__version__}))"
RAY_PROBE = """
import json, sys
address, url = sys.argv[1:]
from search.errors import RunnerError
from search.ledger import Ledger
from search.runner import RayRunner
try:
    runner = RayRunner(Ledger.open(url), address)
except RunnerError as error:
    raise SystemExit(str(error))
print(json.dumps({"text": runner.describe()}))
runner.close()
"""


class CheckState(StrEnum):
    """How a check came out."""

    OK = "ok"
    MISSING = "missing"  # not there; the rest works without it, as the advice says
    BROKEN = "broken"  # there, but does not work, or nothing works without it


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        detail: what was found, one line.
        advice: what to do; empty where nothing is to be done.
    """

    name: str
    state: CheckState
    detail: str
    advice: str = ""


def examine(inherited: Mapping[str, str], *, storage: str, runs: Path, data: Path, address: str) -> Iterator[Check]:
    """Every check, as its result comes in; Ray's, which starts one, takes about ten seconds.

    Args:
        inherited: variables of this process.
        storage: database URL, as in --storage.
        data: folder of shards.
        address: of Ray, as in --address.
    """
    yield check_python()
    yield from check_torch()
    yield check_triton()
    yield check_flash_attention()
    yield from (check_compressor(name) for name in ("zstandard", "brotli"))
    yield check_ray(inherited, address)
    yield check_storage(storage)
    yield check_runs_folder(runs)
    yield check_disk(runs)
    yield check_data(data, data / "tokenizer.model")


def check_python() -> Check:
    """The interpreter's version."""
    is_new = sys.version_info >= MIN_PYTHON
    return Check(
        name="python",
        state=CheckState.OK if is_new else CheckState.BROKEN,
        detail=f"{platform.python_version()} at {sys.executable}",
        advice="" if is_new else "Use Python 3.11 or newer.",
    )


def check_torch() -> Iterator[Check]:
    """PyTorch, and the GPUs it can use."""
    found = _probe(TORCH_PROBE)
    if isinstance(found, str):
        advice = "Needed where runs execute, not where a study is driven: pip install -e '.[trainer]'."
        yield _failed("torch", found, advice)
        return
    yield Check(name="torch", state=CheckState.OK, detail=f"{found['version']}, CUDA {found['cuda'] or 'not built in'}")
    yield from (_gpu_check(gpu) for gpu in found["gpus"])
    if not found["gpus"]:
        yield _no_gpu(has_cuda=found["cuda"] is not None)


def check_triton() -> Check:
    """Triton, for kernels of our own."""
    found = _probe(TRITON_PROBE)
    if isinstance(found, str):
        return _failed("triton", found, "Only GPU runs use it; it comes with a CUDA build of torch.")
    return Check(name="triton", state=CheckState.OK, detail=found["version"])


def check_flash_attention() -> Check:
    """FlashAttention 3 or 4, whichever imports."""
    found = _probe(FLASH_PROBE)
    if isinstance(found, str):
        advice = "Runs use torch's own attention without it. On an H100: pip install -e '.[flash]'."
        return _failed("flash-attn", found, advice)
    return Check(name="flash-attn", state=CheckState.OK, detail=found["name"])


def check_compressor(package: str) -> Check:
    """A compressor outside the standard library (zlib and lzma are in it)."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        advice = f"Recipes that compress with it fail: pip install {package}."
        return Check(name=package, state=CheckState.MISSING, detail="not installed", advice=advice)
    return Check(name=package, state=CheckState.OK, detail=version)


def check_ray(inherited: Mapping[str, str], address: str = LOCAL_ADDRESS) -> Check:
    """Whether a Ray starts here, or the one at the address lets us in; and what it has."""
    with tempfile.TemporaryDirectory() as folder:  # the probe submits nothing, so any database does
        environment = {**inherited, **ray_variables(address, inherited)}
        found = _probe(RAY_PROBE, address, f"sqlite:///{folder}/probe.db", environment=environment)
    if not isinstance(found, str):
        return Check(name="ray", state=CheckState.OK, detail=found["text"])
    advice = "Runs cannot start. Is /tmp writable, and are 2 GB of memory free?"
    if address != LOCAL_ADDRESS:
        advice = "Is it running there, reachable from here, and is RAY_AUTH_TOKEN or ~/.ray/auth_token its own?"
    return Check(name="ray", state=CheckState.BROKEN, detail=found, advice=advice)


def check_storage(url: str) -> Check:
    """Whether the database answers. Nothing is created or upgraded."""
    try:
        resolved = resolve_url(url)
        if resolved.startswith("sqlite") and not _sqlite_path(resolved).exists():
            return _new_sqlite(resolved)
        open_engine(resolved).dispose()
    except StoreError as error:
        advice = "Give another --storage, or start its server."
        return Check(name="storage", state=CheckState.BROKEN, detail=str(error), advice=advice)
    return Check(name="storage", state=CheckState.OK, detail=f"{shown(resolved)} answers")


def check_runs_folder(folder: Path) -> Check:
    """Whether runs can leave their files. The folder itself need not exist yet."""
    where = _existing(folder)
    problem = _write_problem(where)
    if problem is not None:
        advice = "Give another --runs, or make it writable for this user."
        return Check(name="runs", state=CheckState.BROKEN, detail=f"{where}: {problem}", advice=advice)
    detail = f"{folder.absolute()} is writable" if where == folder.absolute() else f"{folder.absolute()} can be made"
    return Check(name="runs", state=CheckState.OK, detail=detail)


def check_disk(folder: Path) -> Check:
    """Free space where runs go; a run leaves up to 17 MB, torch.compile's caches several hundred."""
    free = shutil.disk_usage(_existing(folder)).free
    is_enough = free >= MIN_FREE_BYTES
    return Check(
        name="disk",
        state=CheckState.OK if is_enough else CheckState.BROKEN,
        detail=f"{free / 2**30:.1f} GiB free for {folder.absolute()}",
        advice="" if is_enough else f"Free {MIN_FREE_BYTES / 2**30:.0f} GiB, or give another --runs.",
    )


def check_data(folder: Path, tokenizer: Path) -> Check:
    """Whether shards and a tokenizer are there; caddie data check says whether they are sound."""
    wanted = {f"{split} shards": any(folder.glob(f"fineweb_{split}_[0-9]*.bin")) for split in ("train", "val")}
    wanted["tokenizer"] = tokenizer.is_file()
    missing = [name for name, is_there in wanted.items() if not is_there]
    if missing:
        detail = f"{folder.absolute()}: no {', no '.join(missing)}"
        advice = "make quickstart builds a small one; for your own: caddie data build --help."
        return Check(name="data", state=CheckState.MISSING, detail=detail, advice=advice)
    return Check(name="data", state=CheckState.OK, detail=f"{folder.absolute()}: shards and {tokenizer.name}")


def _probe(code: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, Any] | str:
    """The JSON object that a piece of Python prints last, or its last words where it fails; None inherits variables."""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_SECONDS:.0f} s"
    lines = [line for line in (ended.stderr if ended.returncode else ended.stdout).splitlines() if line.strip()]
    if ended.returncode:
        return (lines or [f"exit code {ended.returncode}"])[-1][:DETAIL_CHARACTERS]
    return json.loads(lines[-1])


def _failed(name: str, words: str, advice: str) -> Check:
    """The check of an optional package whose probe failed."""
    is_absent = words.startswith("ModuleNotFoundError")
    return Check(
        name=name,
        state=CheckState.MISSING if is_absent else CheckState.BROKEN,
        detail="not installed" if is_absent else words,
        advice=advice,
    )


def _gpu_check(gpu: dict[str, Any]) -> Check:
    has_bf16 = tuple(gpu["capability"]) >= BF16_CAPABILITY
    bf16 = "bf16" if has_bf16 else "no bf16: runs fall back to a slower format"
    return Check(name="gpu", state=CheckState.OK, detail=f"{gpu['name']}, {gpu['bytes'] / 2**30:.0f} GiB, {bf16}")


def _no_gpu(has_cuda: bool) -> Check:
    if not Path("/dev/nvidiactl").exists():
        return Check(name="gpu", state=CheckState.MISSING, detail="none", advice="Runs use the CPU: fine for a look.")
    advice = (
        "Its driver may be too old for this torch; see nvidia-smi." if has_cuda else "Install a CUDA build of torch."
    )
    return Check(name="gpu", state=CheckState.BROKEN, detail="a GPU is there, but torch cannot use it", advice=advice)


def _sqlite_path(resolved: str) -> Path:
    return Path(resolved.partition(":///")[2].partition("?")[0])


def _new_sqlite(resolved: str) -> Check:
    folder = _sqlite_path(resolved).parent
    problem = _write_problem(folder)
    if problem is not None:
        advice = "Give another --storage."
        return Check(name="storage", state=CheckState.BROKEN, detail=f"{folder}: {problem}", advice=advice)
    return Check(name="storage", state=CheckState.OK, detail=f"{shown(resolved)} will be created")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _write_problem(folder: Path) -> str | None:
    """Why nothing can be written into a folder; None where it can."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return error.strerror or str(error)
    return None
