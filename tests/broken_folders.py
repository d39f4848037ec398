"""Valid submission folders that a test breaks, and what verification finds then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthetic_runs import make_claim, make_run

from search.bundle import pack
from search.export.folder import export
from search.verify.check import verify
from search.verify.finding import Finding, Severity, is_valid
from search.verify.rerun import Rerun


def edit_json(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "submission.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values, indent=2))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rules(findings: list[Finding], severity: Severity) -> list[str]:
    return sorted({finding.rule for finding in findings if finding.severity is severity})


def refused_by(folder: Path) -> list[str]:
    findings = verify(folder)
    assert not is_valid(findings)
    assert all(finding.message for finding in findings)
    return rules(findings, Severity.REFUSE)


def problems(folder: Path, rerun: Rerun | None = None) -> list[Finding]:
    """Findings but for the note on where the bytes were taken from, which every folder gets."""
    return [finding for finding in verify(folder, rerun) if finding.rule != "bytes"]


def with_code(folder: Path, code: str, *, is_packed: bool = True) -> Path:
    """A valid submission of a made-up program."""
    packed = pack(code)
    out = export(make_claim(folder, *(make_run(folder / f"run{n}", n, packed) for n in (1, 2, 3))), folder / "out")
    if not is_packed:
        plain = code.encode().ljust(len(packed), b"\n")
        assert len(plain) == len(packed)
        (out / "train_gpt.py").write_bytes(plain)
    return out
