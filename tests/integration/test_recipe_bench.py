"""The command that benchmarks named recipes, as it is called, at tiny sizes on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "tests/bench/recipes.py", "--gpus", "0", "--tiny", "--train-tokens", "1024"]


def test_each_recipe_is_a_row_and_a_failure_stops_no_other(tmp_path: Path, short_documents: Path) -> None:
    (tmp_path / "sp1024").symlink_to(short_documents)
    out = tmp_path / "table.md"
    command = [*COMMAND, "--eval-tokens", "512", "--set", "evaluation.sgd.epochs=1", "--set", "model.num_layers=2"]
    command += ["--data", str(tmp_path), "--out", str(out), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [*command, "--only", "pr122", "pr163", "naive_baseline"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.read_text().splitlines()[2:]]
    assert [row[0] for row in rows] == ["recipe", "---", "pr122", "pr163", "naive_baseline"]
    assert rows[2][1].startswith("data in start: environment variable DATA_PATH: nothing is at")
    for row in rows[3:]:
        cells = dict(zip(rows[0], row, strict=True))
        assert int(cells["steps"]) == 4
        assert 2 < float(cells["sliding"]) < 6
        assert int(cells["bytes"].replace(",", "")) > 30_000
        assert cells["error"].endswith("%")
