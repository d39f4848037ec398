"""The performance benchmark, as it is called, at tiny sizes on the CPU; and its table from records of GPUs."""

import json
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from trainer.fast import FastPaths

BENCH = Path(__file__).parents[1] / "bench"
STEP = {"world_size": 1, "seq_len": 1024, "recipe": "naive_baseline", "tokens": 524_288}
TIMES = {"progress": 0.1, "is_looped": False, "all_reduce_ms": 1.0, "optimizer_ms": 3.0, "flops": 6.8e13}


def bench(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / "gpu.py"), "--out", str(out), "--commit", "abc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def goals(out: Path) -> dict[str, dict[str, str]]:
    """The table of goals by its first column."""
    table = out.read_text().split("## Goals\n\n")[1].split("\n\n")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_each_part_is_measured_and_one_that_fails_is_a_line(tmp_path: Path, quickstart_data: Path) -> None:
    (tmp_path / "sp1024").symlink_to(quickstart_data)
    out = tmp_path / "performance.md"
    done = bench(out, "--data", str(tmp_path), "--tiny", "--only", "steps.naive_131072", "steps.1855_131072", "sliding")
    assert done.returncode == 1, done.stderr
    found = goals(out)
    step = found["naive_baseline, T 1024, 131,072 tokens a step"]
    assert (step["public script"], step["goal"], step["run"]) == ("118.65 ms", "<= 50 ms", "a")
    assert float(step["Caddie"].split(" ms")[0]) > 0
    assert found["naive_baseline, T 1024, 524,288 tokens a step"]["Caddie"] == "not measured"
    loop = found["record_1855, T 2048, 131,072 tokens a step, before and in its loop"]
    assert "failed: trainer.errors.DataError: environment variable DATA_PATH: nothing is at" in loop["Caddie"]
    prefix = json.loads((tmp_path / "performance" / "sliding.json").read_text())[0]["result"]["prefix"]
    assert prefix["fast_to_plain_nats"] == pytest.approx(0, abs=1e-5)
    assert prefix["bpb"]["fast"] == pytest.approx(prefix["bpb"]["exact"], abs=1e-6)


def record(name: str, result: dict[str, Any], date: str = "2026-01-01T00:00:00+00:00") -> dict[str, Any]:
    machine = {"device": "NVIDIA H100", "gpus": 2, "torch": "2.11", "commit": "abc", "command": "bench"}
    return {"name": name, "date": date, "seconds": 1.0, "result": result, "failure": "", **machine}


def test_records_of_several_calls_make_one_table(tmp_path: Path) -> None:
    for folder, milliseconds in (("old", 90.0), ("new", 51.0)):
        (tmp_path / folder).mkdir()
        date = "2026-01-01" if folder == "old" else "2026-01-02"
        results = {"1": (100.0, 1), "2": (milliseconds, 2), "eighth": (13.0, 1)}
        records = [
            record(f"scaling.2gpus.{which}", {**STEP, "world_size": world, "at": [{**TIMES, "ms": ms}]}, date)
            for which, (ms, world) in results.items()
        ]
        (tmp_path / folder / "scaling.json").write_text(json.dumps(records))
    out = tmp_path / "table.md"
    done = bench(out, "--only", "--merge", str(tmp_path / "new"), str(tmp_path / "old"))
    assert done.returncode == 0, done.stderr
    row = goals(out)["scaling efficiency of the 524,288-token step, 1 to 2 GPUs"]
    assert (row["Caddie"], row["met"]) == ("0.980 (100.0 to 51.0 ms)", "yes")
    assert "| a | 2 x NVIDIA H100 | 2.11 | abc | 2026-01-02 | `bench` |" in out.read_text()
    # 13 ms for an eighth of the tokens, and 1.75 times the all-reduce of two.
    assert "for 8 GPUs: 14.8 ms a step, efficiency 0.85" in out.read_text()
    assert {value["date"] for value in json.loads((tmp_path / "table" / "scaling.json").read_text())} == {"2026-01-02"}


def test_a_case_leaves_out_each_fast_path() -> None:
    paths = runpy.run_path(str(BENCH / "gpu_cases.py"))["PATHS"]
    assert list(paths) == [field.name for field in fields(FastPaths)]
