"""Hostile folders get findings: no traceback, nothing that waits or is without bounds. Large ones: tests/bench."""

import shutil
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_folders import CODE, LOG, READ, REFUSED, edit_json, many_files
from hypothesis import given, settings
from hypothesis import strategies as st

from search.verify.check import verify
from search.verify.finding import MAX_SHOWN_CHARS, Finding, Severity
from search.verify.folder import LIMITS, Limits, UnreadableError, entries, log_lines, read_bytes, read_text
from search.verify.strict_json import MAX_VALUES, read_json

# A thousandth of what is allowed, but for what the valid folder has.
SMALL = replace(
    LIMITS,
    entries=100,
    log_lines=5_000,
    sizes=(("submission.json", 20_000), ("*.py", 60_000), ("*.log", 60_000), ("*", 90_000)),
)
LARGE, MODERATE = 100_000, 3_000
COUNTS = {
    "many files": 200,
    "log of many lines": 10_000,
    "LZMA bomb": 48 << 20,
    "bomb in a bomb": 48 << 20,
    "bomb of source": 4 << 20,
}


@contextmanager
def ends_within(seconds: float) -> Generator[None]:
    """Fails the test, instead of waiting, where something reads a pipe or a device."""
    late = threading.Timer(seconds, lambda: pytest.exit(f"not done after {seconds} s"))
    late.start()
    try:
        yield
    finally:
        late.cancel()


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_folders_are_refused(folder: Path, name: str) -> None:
    rules, case = REFUSED[name]
    case(folder, COUNTS.get(name, LARGE))
    with ends_within(60):
        findings = verify(folder, limits=SMALL)
    refused = {finding.rule for finding in findings if finding.severity is Severity.REFUSE}
    assert refused & set(rules.split()), findings
    assert all(str(finding).isprintable() and len(str(finding)) < 3 * MAX_SHOWN_CHARS for finding in findings)


@pytest.mark.parametrize("name", READ)
def test_large_folders_within_the_limits_are_read(folder: Path, name: str) -> None:
    READ[name](folder, MODERATE)
    with ends_within(60):
        findings = verify(folder)
    assert not {"size", "files", "links"} & {finding.rule for finding in findings}
    assert all(str(finding).isprintable() for finding in findings)


def test_what_is_refused_is_not_opened(folder: Path) -> None:
    """A pipe that is opened waits for its writer."""
    REFUSED["code is a pipe"][1](folder, 0)
    with ends_within(20):
        assert [finding.rule for finding in verify(folder)] == ["files"]
        with pytest.raises(UnreadableError, match="expected a file, got something else"):
            read_bytes(folder / CODE)


def test_a_million_files_are_not_listed(tmp_path: Path) -> None:
    many_files(tmp_path, 300)
    with pytest.raises(UnreadableError, match="at most 100 files"):
        list(entries(tmp_path, Limits(entries=100)))


def test_names_do_not_reach_the_terminal(folder: Path) -> None:
    (folder / "\x1b]0;title\x07.log").touch()
    edit_json(folder, date="\x1b[2J" + "x" * 5_000)
    findings = verify(folder)
    assert findings and all("\x1b" not in str(finding) for finding in findings)
    assert "\\x1b" in findings[0].file
    long = Finding("json", Severity.REFUSE, "a", None, "\u202e" + "x" * 10**6)
    assert len(long.message) < MAX_SHOWN_CHARS + 20 and "\u202e" not in long.message


@pytest.mark.parametrize("coding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_logs_that_windows_writes_are_read(folder: Path, coding: str) -> None:
    text = (folder / LOG).read_text().replace("\n", "\r\n")
    mark = b"\xff\xfe" if coding == "utf-16-le" else b""
    (folder / LOG).write_bytes(mark + text.encode(coding))
    assert read_text(folder / LOG) == text.replace("\r\n", "\n")
    assert not [finding for finding in verify(folder) if finding.severity is Severity.REFUSE]


def test_lines_are_those_of_the_file() -> None:
    text = "a\x0cb\u2028c\n\n" + "x" * 9_000 + "\nlast"
    lines = dict(log_lines(text))
    assert (lines[1], lines[2], lines[4]) == ("a\x0cb\u2028c", "", "last")
    assert 100 < len(lines[3]) < 9_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key a twice"),
        ('{"a": {"b": 1, "b": 1}}', "the key b twice"),
        ("[1e400]", "too large for a float"),
        ("[-1e400]", "too large for a float"),
        ("[Infinity]", "the number Infinity"),
        (f"[{'9' * 5000}]", "a whole number of 5000 digits"),
        (f"[{2**64}]", "a whole number of 20 digits"),
        ("[" * 100_000, "nested too deep"),
        (str([0] * (MAX_VALUES + 1)), f"more than {MAX_VALUES} values"),
        (str([[0] * 200] * 200), f"more than {MAX_VALUES} values"),
    ],
)
def test_strict_json(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(text)


NUMBERS = st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        "seeds",
        "seed_results",
        "val_bpb",
        "val_loss",
        "val_bpb_std",
        "bytes_total",
        "bytes_code",
        "compliance",
        "track",
        "date",
    ]
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_any_values_are_answered(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("any") / "out"))
    edit_json(folder, **values)
    assert all(finding.message for finding in verify(folder))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400), st.sampled_from([LOG, CODE, "README.md", "submission.json", "requirements.txt"]))
def test_any_bytes_are_answered(
    exported: Path, tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path_factory.mktemp("any") / "out"))
    (folder / name).write_bytes(data)
    assert all(finding.message for finding in verify(folder))


def test_readable_copies_for_python_312_are_compared(folder: Path) -> None:
    code = 'def run():\n    print(f"{", ".join(["a"])}")\n\n\nrun()\n'
    (folder / CODE).write_text(code)
    (folder / "train_gpt_readable.py").write_text(f"# Why.\n{code}")
    assert not {"code", "readable-copy"} & {finding.rule for finding in verify(folder)}
    (folder / "train_gpt_readable.py").write_text(code.replace("run", "walk"))
    assert "readable-copy" in {finding.rule for finding in verify(folder)}
