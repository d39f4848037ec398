"""Small scripts in the challenge's manner, each a base with parts replaced, and whether a reviewer must refuse it."""

import base64
import lzma
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from textwrap import dedent

import brotli

BASES = Path(__file__).parent / "bases"
MARK = re.compile(r"^ *#@(\w+)\n", re.MULTILINE)


class Packing(StrEnum):
    """How a script is wrapped for shipping, in the forms seen in public submissions."""

    LZMA = "lzma"  # base85, the stream with its header
    LZMA_RAW = "lzma-raw"  # base85, a raw LZMA2 stream and imports under short names
    ZLIB = "zlib"  # base64
    BROTLI = "brotli"  # base85
    NESTED = "nested"  # zlib inside LZMA
    NAMED = "named"  # LZMA, the text held in a variable and compiled under a name


@dataclass(frozen=True, slots=True)
class Script:
    """One script of the corpus.

    Attributes:
        rule: the one rule it violates, by its id; None for an innocent script.
        why: why it does or does not, and the ruling it rests on.
        base: a file of bases/, whose parts start at lines "#@part".
        parts: replaces whole parts of the base.
        ahead: text that goes ahead of a part.
        swaps: text of the base, found exactly once, and what takes its place.
        renames: names of the base that the author chose differently.
        beside: more files of the folder.
    """

    name: str
    rule: str | None
    why: str
    base: str
    parts: Mapping[str, str] = field(default_factory=dict[str, str])
    ahead: Mapping[str, str] = field(default_factory=dict[str, str])
    swaps: tuple[tuple[str, str], ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict[str, str])
    packing: Packing | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict[str, bytes])

    def source(self) -> str:
        """The readable text: what runs in the end."""
        text = swapped(joined(self), self.swaps)
        for old, new in self.renames.items():
            text, count = re.subn(rf"\b{old}\b", new, text)
            assert count, f"{self.name}: expected the name {old}"
        return text

    def shipped(self) -> str:
        """The text of train_gpt.py."""
        return self.source() if self.packing is None else packed(self.source(), self.packing)

    def write(self, folder: Path) -> None:
        """Lay the script out as a submission's code."""
        (folder / "train_gpt.py").write_text(self.shipped(), encoding="utf-8")
        for name, content in self.beside.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def joined(script: Script) -> str:
    """The base with parts replaced and text put ahead of parts; a nested part keeps its own indentation."""
    before, *rest = MARK.split((BASES / f"{script.base}.txt").read_text(encoding="utf-8"))
    parts = dict(zip(rest[::2], rest[1::2], strict=True))
    unknown = (script.parts.keys() | script.ahead.keys()) - parts.keys()
    assert not unknown, f"{script.name}: {script.base} has no parts {sorted(unknown)}, only {sorted(parts)}"
    text = before
    for name, part in parts.items():
        indent = (re.match(r" *", part) or [""])[0]
        text += indented(script.ahead.get(name, ""), indent)
        text += indented(script.parts[name], indent) if name in script.parts else part
    return text


def indented(text: str, indent: str) -> str:
    """Text of an entry at the place where it goes."""
    lines = dedent(text).strip("\n").splitlines()
    return "".join(f"{indent}{line}\n" if line else "\n" for line in lines)


def swapped(text: str, swaps: tuple[tuple[str, str], ...]) -> str:
    """Text with each pair's first exchanged for its second; the first must be there once."""
    for old, new in swaps:
        assert text.count(old) == 1, f"expected once, got {text.count(old)} times: {old}"
        text = text.replace(old, new)
    return text


def packed(source: str, packing: Packing) -> str:
    """A self-extracting wrapper of a script."""
    raw = source.encode()
    b85 = {
        Packing.LZMA: lzma.compress(raw),
        Packing.LZMA_RAW: lzma.compress(raw, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}]),
        Packing.ZLIB: zlib.compress(raw, 9),
        Packing.BROTLI: brotli.compress(raw),
        Packing.NESTED: lzma.compress(zlib.compress(raw, 9)),
        Packing.NAMED: lzma.compress(raw, lzma.FORMAT_ALONE),
    }[packing]
    text = (base64.b64encode if packing is Packing.ZLIB else base64.b85encode)(b85).decode()
    return WRAPPERS[packing].replace("PAYLOAD", text)


WRAPPERS = {
    Packing.LZMA: 'import lzma,base64\nexec(lzma.decompress(base64.b85decode("PAYLOAD")))\n',
    Packing.LZMA_RAW: (
        'import lzma as L,base64 as B\nexec(L.decompress(B.b85decode("PAYLOAD"),'
        'format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))\n'
    ),
    Packing.ZLIB: (
        "import base64\nimport zlib\n\nSOURCE = b'PAYLOAD'\n"
        "exec(compile(zlib.decompress(base64.b64decode(SOURCE)).decode('utf-8'), __file__, 'exec'))\n"
    ),
    Packing.BROTLI: "import brotli as b;from base64 import*;exec(b.decompress(b85decode('PAYLOAD')).decode())\n",
    Packing.NESTED: 'import lzma,zlib,base64\nexec(zlib.decompress(lzma.decompress(base64.b85decode("PAYLOAD"))))\n',
    Packing.NAMED: (
        'import base64, linecache, lzma\ntext = lzma.decompress(base64.b85decode("PAYLOAD")).decode()\n'
        'name = "train_gpt.flat.py"\nlinecache.cache[name] = len(text), None, text.splitlines(True), name\n'
        'exec(compile(text, name, "exec"))\n'
    ),
}
