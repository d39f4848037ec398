"""Self-extracting files at random: random wrappers are opened, damaged ones and any bytes are answered."""

import base64
import bz2
import codecs
import gzip
import lzma
import random
import zlib
from collections.abc import Callable

import brotli
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wrapped_sources import RAW_FILTERS, SOURCE, WRAPPERS, opened

from search.verify.unpack import Unpacked, readable_code

Form = Callable[[bytes, random.Random], str]
COMPRESSORS: tuple[tuple[str, Callable[[bytes], bytes], str], ...] = (
    ("zlib", zlib.compress, "{m}.decompress({d})"),
    ("lzma", lzma.compress, "{m}.decompress({d})"),
    ("bz2", bz2.compress, "{m}.decompress({d})"),
    ("gzip", gzip.compress, "{m}.decompress({d})"),
    ("brotli", brotli.compress, "{m}.decompress({d})"),
    ("zstandard", zstandard.compress, "{m}.ZstdDecompressor().decompress({d})"),
    (
        "lzma",
        lambda data: lzma.compress(data, format=lzma.FORMAT_RAW, filters=RAW_FILTERS),
        "{m}.decompress({d},format={m}.FORMAT_RAW,filters=[dict(id={m}.FILTER_LZMA2)])",
    ),
)
ENCODERS: tuple[tuple[Callable[[bytes], str], str], ...] = (
    (lambda data: repr(base64.b85encode(data).decode()), "{b}.b85decode({d})"),
    (lambda data: repr(base64.a85encode(data)), "{b}.a85decode({d})"),
    (lambda data: repr(base64.b64encode(data)), "{b}.b64decode({d})"),
    (lambda data: repr(data.hex()), "bytes.fromhex({d})"),
    (lambda data: repr(data), "{d}"),
    (lambda data: repr(data[::-1]), "{d}[::-1]"),
    (lambda data: repr([*data]), "bytes({d})"),
    (lambda data: repr(codecs.encode(data.hex(), "rot13")), "bytes.fromhex(__import__('codecs').decode({d},'rot13'))"),
)
EXECUTORS = (
    "exec({p})",
    "exec({p}.decode())",
    "exec(compile({p},'x','exec'))",
    "run=exec\nrun({p})",
    "(lambda f,x:f(x))(exec,{p})",
    "def go(p=None):\n    exec(p or {p},globals())\ngo()",
    "if __name__=='__main__':\n    exec({p})",
    "import builtins\ngetattr(builtins,'cexe'[::-1][:0]+'exec')({p})",
    "code=compile({p},'x','exec')\nexec(code,globals())",
)


@st.composite
def wrapped(draw: st.DrawFn, text: str) -> str:
    """A random wrapper of a text."""
    module, compress, decompress = draw(st.sampled_from(COMPRESSORS))
    encode, decode = draw(st.sampled_from(ENCODERS))
    alias, base = draw(st.sampled_from(["L", module])), draw(st.sampled_from(["B", "base64"]))
    lines = [f"import {module} as {alias}, base64 as {base}"]
    literal = encode(compress(text.encode()))
    if draw(st.booleans()):
        lines.append(f"data = {literal}")
        literal = "data"
    payload = decompress.format(m=alias, d=decode.format(b=base, d=literal))
    if draw(st.booleans()):
        lines.append(f"code = {payload}")
        payload = "code"
    return "\n".join([*lines, draw(st.sampled_from(EXECUTORS)).format(p=payload)])


SOURCES = st.sampled_from([SOURCE, "x = 1\n", "from __future__ import annotations\nimport os, sys\n\nprint('\\n')\n"])


@settings(deadline=None, max_examples=120)
@given(st.data(), SOURCES, st.integers(1, 3))
def test_random_wrappers_round_trip(data: st.DataObject, source: str, layers: int) -> None:
    code = source
    for _ in range(layers):
        code = data.draw(wrapped(code))
    assert opened(code) == Unpacked(source, "train_gpt.py (unpacked)", layers, "")


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([*WRAPPERS.values()]), st.integers(0, 2**32))
def test_damaged_wrappers_never_raise(code: str | bytes, seed: int) -> None:
    data, source = bytearray(code if isinstance(code, bytes) else code.encode()), random.Random(seed)
    for _ in range(source.randint(1, 6)):
        place = source.randrange(len(data))
        data[place : place + source.randint(0, 2)] = bytes(
            source.choices(b"()[]{}'\"\\\n :,.=+x0%\xff", k=source.randint(0, 2))
        )
    found = readable_code(bytes(data))
    assert isinstance(found.text, str)
    assert all(line.isprintable() for line in found.finding.splitlines())


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=300))
@example(b"")
@example(b"\x00")
@example(b"# coding: rot13\nprint(1)")
@example(b"# coding: nonsense\nprint(1)")
@example(b"return 1\nbreak\n")
def test_any_bytes_are_answered(data: bytes) -> None:
    assert readable_code(data).layers == 0
