"""Measures training, scoring, start-up and scaling: python tests/bench/gpu.py --data DATA --out docs/performance.md.

DATA holds sp1024 and sp8192 as build_shards.py makes them. Each case is a process, so that one's crash is a line of
the table and the rest go on. What it measured goes at once into a JSON file a part in the folder --results, and the
Markdown is made from these files alone: parts may be measured by calls of their own, and on machines of other kinds.

    --only steps sliding start      these parts, or cases such as steps.naive_524288; of none: only the table
    --share runs/gpu_share          also the share of a finished study's runs, after `caddie run` of gpu_share.yaml
    --merge FOLDER                  take in the JSON files that another machine made
    --tiny                          small sizes, for a trial of this command on a CPU

This driver needs neither torch nor anything of Caddie; the cases do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gpu_cases import Case, all_cases, selected
from gpu_records import Record, Result, read_records, write_records
from gpu_report import render

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARTS = ("steps", "sliding", "start", "share", "scaling", "paths")
ENDING_SECONDS = 20.0  # for torchrun to end its ranks
MESSAGE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What runs the cases."""

    device: str
    gpus: int
    torch: str


def this_machine() -> Machine:
    """This one, asked without torch, which would take memory of its first GPU."""
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")
    except (FileNotFoundError, subprocess.CalledProcessError):
        names = []
    gpus = [name.strip() for name in names if name.strip()]
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    return Machine(device=gpus[0] if gpus else "cpu", gpus=len(gpus), torch=torch)


def this_commit() -> str:
    """The commit of the working tree, marked where it was edited since."""
    query = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(query, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"


def command_of(arguments: argparse.Namespace) -> str:
    """The call, without what only this machine's folders are called."""
    words = ["python tests/bench/gpu.py --data DATA"]
    words += [f"--only {' '.join(arguments.only)}"] if arguments.only != PARTS else []
    words += ["--share RUNS"] if arguments.share else []
    words += ["--tiny"] if arguments.tiny else []
    return " ".join(words)


def run_case(case: Case, arguments: argparse.Namespace) -> Result | str:
    """What a case measured, or why it failed."""
    with tempfile.TemporaryDirectory(prefix="caddie-bench-") as folder:
        out = Path(folder) / "result.json"
        command = [*launcher(case.world_size), str(HERE / case.script), *case.arguments, "--out", str(out)]
        command += ["--dataset", str(arguments.data / case.dataset)] if case.dataset else []
        command += ["--tiny"] if arguments.tiny and case.dataset else []
        ending = execute(command, Path(folder) / "stderr.txt", case.limit_seconds)
        if ending or not out.exists():
            return (ending or "no result").replace(str(arguments.data.resolve()), "DATA").replace(f"{ROOT}/", "")
        return json.loads(out.read_text())


def launcher(world_size: int) -> list[str]:
    """How a script starts, in one process or several."""
    if world_size == 1:
        return [sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]


def execute(command: list[str], stderr: Path, limit_seconds: float) -> str:
    """Run a command; returns why it failed, or ""."""
    paths = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    with stderr.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stderr=file)
        try:
            code = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            end(process)
            return f"still running after {limit_seconds:.0f} s"
    if code == 0:
        return ""
    text = stderr.read_text(errors="replace")
    print(text[-4000:], file=sys.stderr)  # noqa: T201
    return last_error(text) or f"exit code {code}"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a case; torchrun, asked first, ends its ranks."""
    process.terminate()
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_error(text: str) -> str:
    """The last line that names an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.partition(":")[0] and "ChildFailedError" not in line]
    return (named or lines or [""])[-1][:MESSAGE_CHARACTERS]


def measure(case: Case, arguments: argparse.Namespace, machine: Machine) -> Record:
    """The record of a case."""
    print(f"{case.name} ...", flush=True)  # noqa: T201
    start = time.perf_counter()
    outcome = run_case(case, arguments)
    seconds = time.perf_counter() - start
    print(f"{case.name}: {outcome if isinstance(outcome, str) else 'done'}, {seconds:.0f} s", flush=True)  # noqa: T201
    return Record(
        name=case.name,
        device=machine.device,
        gpus=machine.gpus,
        torch=machine.torch,
        commit=arguments.commit,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_of(arguments),
        seconds=seconds,
        result=None if isinstance(outcome, str) else outcome,
        failure=outcome if isinstance(outcome, str) else "",
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the datasets sp1024 and sp8192")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown file to write")
    parser.add_argument("--results", type=Path, help="folder of the JSON files; --out without .md unless given")
    parser.add_argument("--only", nargs="*", default=PARTS, metavar="PART", help="these parts or cases")
    parser.add_argument("--share", metavar="RUNS", help="runs of a finished study")
    parser.add_argument("--merge", type=Path, nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--commit", default=this_commit(), help="where this is no git checkout")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a trial of this command")
    return parser.parse_args()


def cases_of(arguments: argparse.Namespace, machine: Machine) -> list[Case]:
    """The cases that were asked for; ends the program where there is none of a name."""
    cases = all_cases(machine.gpus, arguments.share)
    unknown = [name for name in arguments.only if arguments.only != PARTS and not selected(cases, [name])]
    if unknown:
        raise SystemExit(f"--only: expected parts or cases of this machine, got {', '.join(unknown)}")
    return selected(cases, arguments.only)


def main() -> int:
    """Measure what was asked for and write the table; 1 if a case failed."""
    arguments = parse_arguments()
    machine = this_machine()
    folder = arguments.results or arguments.out.with_suffix("")
    records = read_records([folder, *arguments.merge])
    failed = 0
    for case in [None, *cases_of(arguments, machine)]:
        if case is not None:
            records[case.name] = measure(case, arguments, machine)
            failed += bool(records[case.name].failure)
        # After each case, so that a call that is cut off leaves what it has.
        write_records(folder, records)
        arguments.out.write_text(render(records), encoding="utf-8")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
