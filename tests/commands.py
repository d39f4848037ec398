"""The real command and the shortened quickstart, for integration tests."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


def caddie(folder: Path, *arguments: str, expected: int = 0) -> str:
    """Run the command in a folder and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "search", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, (arguments, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def place_quickstart(folder: Path, data: Path, trials: int) -> None:
    """Put the quickstart's data and study into a working folder, both rungs cut short.

    The first has shorter sequences too; the last has half of its tokens, as many as it takes to learn more than how
    often tokens come, and one seed.
    """
    (folder / "data").mkdir()
    (folder / "data" / "quickstart").symlink_to(data)
    study: dict[str, Any] = yaml.safe_load((ROOT / "studies" / "quickstart.yaml").read_text(encoding="utf-8"))
    proxy, full = study["rungs"]
    proxy |= {"trials": trials, "budget": {"train_tokens": 32_768, "eval_tokens": 8_192}}
    proxy |= {"set": {"schedule.train_seq_len": 128}}
    full["budget"]["train_tokens"] //= 2
    full |= {"promote": 1, "seeds": full["seeds"][:1]}
    (folder / "quickstart.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
