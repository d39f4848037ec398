"""Environment variables and options: their defaults, or what the folder's text says they are set to."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from search.verify.review.machine import Machine
from search.verify.review.marks import Flag
from search.verify.review.values import Value, const

ASSIGNMENT = re.compile(r"""(?<![\w$.-])([A-Z][A-Z0-9_]{2,63})=["']?([^\s"'`\\|;&)]{1,200})""")
# Spaces of one line only: over a run of empty lines \s would take quadratic time.
LOGGED = re.compile(r"""^[ \t]*+([a-z][a-z0-9_]{2,63})[ \t]*+[:=][ \t]*+(True|False|[-+.\d]{1,20})[ \t\r]*+$""", re.M)
OPTION = re.compile(r"(?<!\S)--([a-z][a-z0-9_-]{1,40})(?:[ =]([\w./-]{1,100}))?")
MAX_FILE_BYTES = 200_000
TEXTS = (".md", ".sh", ".txt", ".log", ".json", ".env")


def folder_settings(folder: Path) -> dict[str, str]:
    """Variables that a folder's README, scripts and logs show to be set for its runs."""
    found: dict[str, str] = {}
    paths = sorted(path for path in folder.iterdir() if path.suffix in TEXTS) if folder.is_dir() else []
    for path in paths[:50]:
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                found.update(settings_in(file.read(MAX_FILE_BYTES).decode(errors="replace")))
    return found


def settings_in(text: str) -> dict[str, str]:
    """The same of one text: NAME=value, a log's `name: value`, and --options."""
    found = {name: value for name, value in ASSIGNMENT.findall(text)}
    found.update({name.upper(): value for name, value in LOGGED.findall(text) if name.upper() not in found})
    found.update({f"--{name}": value or "True" for name, value in OPTION.findall(text)})
    return found


def setting(machine: Machine, name: str, default: Value | None) -> Value:
    """An environment variable: set by the folder's own words, else its default."""
    known = machine.settings.get(name)
    if known is not None:
        known = {"True": "1", "False": "0"}.get(known, known)
        texts = () if default is None else tuple(default.texts)
        return Value(frozenset({Flag.SETTING}), (known, *[text for text in texts if "/" in text]), is_open=False)
    if default is None:
        return Value()
    return Value(default.marks | {Flag.SETTING}, default.consts, default.refs, default.is_open)


def option(settings: Mapping[str, str], names: Iterable[str], default: Value) -> Value:
    """A command line's option, named by its flags."""
    for name in names:
        if name in settings:
            return const(settings[name]).marked({Flag.SETTING})
    return default.marked({Flag.SETTING})
