"""Self-extracting files: every way of wrapping is opened without running it, and what cannot be is said."""

import ast
import base64
import bz2
import codecs
import gzip
import io
import lzma
import random
import time
import zipfile
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from search.bundle import pack
from search.verify.python_text import MAX_TOKENS, parse
from search.verify.unpack import Unpacked, readable_code

SOURCE = "import torch\n\n\ndef step(x):\n    return x + 1\n\n\nprint(step(1), 'é')\n"
RAW_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def b85(data: bytes) -> str:
    return base64.b85encode(data).decode()


def zipped(text: str = SOURCE) -> bytes:
    return zlib.compress(text.encode(), 9)


def opened(code: str | bytes) -> Unpacked:
    return readable_code(code if isinstance(code, bytes) else code.encode())


SOURCE_BYTES = SOURCE.encode()
BROTLI, GZIP, A85 = brotli.compress(SOURCE_BYTES), gzip.compress(SOURCE_BYTES), base64.a85encode
Z, RAW = zipped(), lzma.compress(SOURCE.encode(), format=lzma.FORMAT_RAW, filters=RAW_FILTERS)
LATIN_ESCAPES = {0: "\\0", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
LATIN = zipped(SOURCE.replace("é", "e")).decode("latin-1").translate(LATIN_ESCAPES).encode("latin-1")

# As people wrap their files: records do the first three.
WRAPPERS: dict[str, str | bytes] = {
    "raw LZMA2, aliases": f'import lzma as L,base64 as B\nexec(L.decompress(B.b85decode("{b85(RAW)}"),'
    'format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))',
    "one line": f"import lzma,base64 as B;exec(lzma.decompress(B.b85decode({b85(lzma.compress(SOURCE_BYTES))!r})))",
    "brotli": f"import brotli,base64\nexec(brotli.decompress(base64.b85decode({b85(BROTLI)!r})))",
    "caddie's own": pack(SOURCE),
    "brotli, guarded": "import base64\n"
    "try:\n    import brotli\nexcept ImportError:\n    raise SystemExit('pip install')\n"
    f"exec(brotli.decompress(base64.b85decode({b85(BROTLI)!r})))",
    "zstandard": "import zstandard as z,base64\n"
    f"exec(z.ZstdDecompressor().decompress(base64.b85decode({b85(zstandard.compress(SOURCE_BYTES))!r})))",
    "compile": "import zlib,base64\n"
    f"exec(compile(zlib.decompress(base64.b64decode({base64.b64encode(Z)!r})),'t','exec'))",
    "bytes literal": f"import zlib\nexec(zlib.decompress({Z!r}))",
    "__import__": f'exec(__import__("zlib").decompress(__import__("base64").b85decode("{b85(Z)}")))',
    "getattr": "import builtins\n"
    f'getattr(builtins,"ex"+"ec")(getattr(__import__("zlib"),"decom"+"press")(bytes.fromhex("{Z.hex()}")))',
    "lambda": "(lambda e,d:e(d.decode()))(exec,"
    f"__import__('zlib').decompress(__import__('base64').a85decode({A85(Z)!r})))",
    "pieces": f"import zlib,base64\np=[{b85(Z)[:20]!r},{b85(Z)[20:40]!r}]\nq={b85(Z)[40:]!r}\n"
    'exec(zlib.decompress(base64.b85decode("".join(p)+q)))',
    "reversed": f"import zlib,base64\nexec(zlib.decompress(base64.b85decode({b85(Z)[::-1]!r}[::-1])))",
    "xor": f"import zlib\nd={bytes(x ^ 42 for x in Z)!r}\nexec(zlib.decompress(bytes(x^42 for x in d)))",
    "function": "import zlib,base64\n"
    "def go(s):\n    data=base64.b85decode(s)\n    return zlib.decompress(data)\n"
    f"exec(go({b85(Z)!r}))",
    "main": f"P={b85(Z)!r}\ndef main():\n    import zlib,base64\n"
    "    exec(zlib.decompress(base64.b85decode(P)),globals())\n"
    'if __name__=="__main__":\n    main()',
    "reads itself": b'import zlib,base64\nd=open(__file__,"rb").read()\nexec(zlib.decompress(base64.b85decode('
    b'd.split(b"#PAY"+b"LOAD:")[1].strip())))\n#PAYLOAD:' + b85(Z).encode(),
    "reads its last line": b"import zlib,pathlib as p,base64\n"
    b"exec(zlib.decompress(base64.b85decode(p.Path(__file__).read_text().splitlines()[-1][1:])))\n#" + b85(Z).encode(),
    "with": b"import zlib\nwith open(__file__) as f:\n    s=f.read()\n"
    b"exec(zlib.decompress(bytes.fromhex(s[s.rindex('#')+1:].strip())))\n#" + Z.hex().encode(),
    "docstring": f'"""{b85(Z)}"""\nimport zlib,base64\nexec(zlib.decompress(base64.b85decode(__doc__)))',
    "gzip file": "import gzip,io,base64\n"
    f"exec(gzip.GzipFile(fileobj=io.BytesIO(base64.b64decode({base64.b64encode(GZIP)!r}))).read())",
    "codecs": f"import codecs\nexec(codecs.decode(codecs.decode({base64.b64encode(Z)!r},'base64'),'zlib'))",
    "function type": f"import types,zlib\ntypes.FunctionType(compile(zlib.decompress({Z!r}),'a','exec'),globals())()",
    "decorators": f"import zlib\n@exec\n@lambda _:zlib.decompress({Z!r})\ndef x():pass",
    "renamed exec": f"from zlib import decompress as d\nfrom base64 import b85decode as b\ne=exec\ne(d(b({b85(Z)!r})))",
    "runpy": f"import runpy,zlib\np='/tmp/x.py'\nopen(p,'wb').write(zlib.decompress({Z!r}))\nrunpy.run_path(p)",
    "loop": f"import zlib,base64\ns=''\nfor c in [{b85(Z)[:9]!r},{b85(Z)[9:]!r}]:\n    s+=c\n"
    "exec(zlib.decompress(base64.b85decode(s)))",
    "decompressor object": "import lzma\nexec(lzma.LZMADecompressor(format=lzma.FORMAT_RAW,"
    f"filters=[{{'id':lzma.FILTER_LZMA2,'dict_size':1<<20}}]).decompress({RAW!r}))",
    "map": f"import zlib\nlist(map(exec,[zlib.decompress({Z!r})]))",
    "__builtins__": f"import zlib\nglobals()['__builtins__'].exec(zlib.decompress({Z!r}))",
    "walrus": f"exec((z:=__import__('zlib')).decompress({Z!r}))",
    "sys.modules": f"import sys,zlib\nexec(sys.modules['zlib'].decompress({Z!r}),sys.modules['__main__'].__dict__)",
    "number": f"import zlib\nexec(zlib.decompress(({int.from_bytes(Z, 'big')}).to_bytes({len(Z)},'big')))",
    "characters": f"exec(''.join(map(chr,{[ord(one) for one in SOURCE]})))",
    "while": f"import zlib\nd,i,o={bytes(x ^ 7 for x in Z)!r},0,b''\n"
    "while True:\n    if i>=len(d):\n        break\n    o+=bytes([d[i]^7])\n    i+=1\nexec(zlib.decompress(o))",
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_opened(name: str) -> None:
    found = opened(WRAPPERS[name])
    assert (found.layers, found.finding, found.shown) == (1, "", "train_gpt.py (unpacked)")
    assert found.text.strip() == SOURCE.strip()


def test_latin_1_source_with_raw_bytes() -> None:
    found = opened(b'# coding: latin-1\nimport zlib\nexec(zlib.decompress("' + LATIN + b'".encode("latin-1")))\n')
    assert (found.text, found.finding) == (SOURCE.replace("é", "e"), "")


def test_plain_code_is_left_as_it_is() -> None:
    code = "import re\nmodel.eval()\nre.compile('a')\nx = eval('1')\n"
    assert opened(SOURCE) == Unpacked(SOURCE, "train_gpt.py", 0, "")
    assert opened(code).text.startswith(code)


def test_wrappers_in_wrappers() -> None:
    code = SOURCE
    for _ in range(5):
        code = f"import zlib\nexec(zlib.decompress({zipped(code)!r}))"
    assert opened(code) == Unpacked(SOURCE, "train_gpt.py (unpacked)", 5, "")
    for _ in range(5):
        code = f"import zlib\nexec(zlib.decompress({zipped(code)!r}))"
    assert "more than 8 wrappers" in opened(code).finding


# ---- a wrapper that does more than unpack stays in the text


@pytest.mark.parametrize(
    "more",
    [
        "import socket",
        "from socket import *",
        "torch.load = print",
        "import os\nos.environ['X'] = '1'",
        "class A:\n    pass",
        "if len(__import__('sys').argv) > 3:\n    import socket",
        "try:\n    import lzma\nexcept ImportError:\n    import socket",
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_wrapper_with_other_code_is_kept(more: str, is_first: bool) -> None:
    wrapper = f"import zlib\nexec(zlib.decompress({Z!r}))"
    code = f"{more}\n{wrapper}\n" if is_first else f"{wrapper}\n{more}\n"
    found = opened(code)
    assert found.text.startswith(code) and SOURCE in found.text
    assert found.layers == 1 and not found.finding


def test_names_that_the_payload_needs_are_kept() -> None:
    helper = "def load(x, y=0):\n    if y:\n        import socket\n    return x\n"
    found = opened(f"import zlib\n{helper}exec(load(zlib.decompress({zipped('load(1, 2)')!r})))\n")
    assert "import socket" in found.text and "load(1, 2)" in found.text
    alias = opened(f"import zlib\ni = __import__\nexec(i('zlib').decompress({zipped('i(chr(115))')!r}))\n")
    assert "i = __import__" in alias.text


def test_code_that_is_executed_where_nothing_calls_it_is_read() -> None:
    packed = f"exec(zlib.decompress({zipped('import socket')!r}))"
    for code in (
        f"import zlib\nif 0:\n    {packed}\n",
        f"import zlib\ndef f(x):\n    {packed}\n",
        f"import zlib\nclass A:\n    def run(self):\n        {packed}\n",
        f"import zlib\nf = lambda: {packed}\n",
    ):
        found = opened(code)
        assert "import socket" in found.text and found.layers == 1, code


def test_code_that_is_unpacked_into_a_module_is_read() -> None:
    code = "import zlib, tempfile\nfile = tempfile.mktemp()\n"
    code += f"open(file, 'wb').write(zlib.decompress({Z!r}))\nimport other\n"
    assert SOURCE in opened(code).text


def test_several_payloads() -> None:
    code = f"import zlib\nexec(zlib.decompress({zipped('a = 1')!r}))\nexec(zlib.decompress({zipped('b = 2')!r}))\n"
    assert opened(code).text == "a = 1\nb = 2"


# ---- what cannot be read is said


BOMB = zlib.compress(bytes(40_000_000))
UNREADABLE = {
    "a payload that decompresses to more than": f"import zlib\nexec(zlib.decompress({BOMB!r}))",
    "the file 'train_gpt_decode.py'": "exec(open('train_gpt_decode.py').read())",
    "os.environ.X": "import os\nexec(os.environ['X'])",
    "compiled code": f"import marshal,zlib\nexec(marshal.loads(zlib.decompress({Z!r})))",
    "bytes that stand in the text": "import pickle\npickle.loads(b'cos\\nsystem')",
    "builtins.input": "globals()['ev'+'al'](input())",
    "ends too early": f"import zlib\nexec(zlib.decompress({Z[:-9]!r}))",
    "is not Python": f"import zlib\nexec(zlib.decompress({zipped('def')!r}))",
    "a very large number": "x=1<<10**10\nexec(str(x))",
    "a value of more than": "x='a'*10**10\nexec(x)",
    "formatted in an unusual way": "x='%1000000000d'%1\nexec(x)",
    "lists of very many lists": "a=(1,)\n" + "a=(a,a)\n" * 60 + "exec(str(a))",
    "more than 8 wrappers": "exec(open(__file__).read())",
    "bytes before it runs": "s=''\nfor i in range(10**6):\n    s+='ab'*100\nexec(s)",
    "not in the text": "import socket\ndef run(x):\n    exec(x)\nrun(socket.socket().recv(10))",
    "a zip archive": b"print('innocent')\n",
    "the byte 0x80": bytes(range(256)) * 100,
}


@pytest.mark.parametrize("reason", UNREADABLE)
def test_what_cannot_be_read_is_said(reason: str) -> None:
    code = UNREADABLE[reason]
    if reason == "a zip archive":
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("__main__.py", "print(1)")
        code = b"print('innocent')\n" + archive.getvalue()
    start = time.monotonic()
    found = opened(code)
    assert found.finding.startswith("expected ") and reason in found.finding
    assert time.monotonic() - start < 20


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "brotli", None)
    assert "the package brotli, which reads it, is not installed" in opened(WRAPPERS["brotli"]).finding


def test_setting_that_is_evaluated_is_no_payload() -> None:
    assert opened("import os\nbetas = eval(os.environ['BETAS'])\n").finding == ""


def test_nothing_is_executed(tmp_path_factory: pytest.TempPathFactory) -> None:
    mark = tmp_path_factory.mktemp("mark") / "ran"
    payload = f"open({str(mark)!r}, 'w').write('x')\nimport os\nos.system('touch {mark}')\n"
    for code in (payload, f"import zlib\nexec(zlib.decompress({zipped(payload)!r}))"):
        opened(code)
        assert not mark.exists()


# ---- properties

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


# ---- Python source of others

NEWER = {
    'f"{cat}: {", ".join(names)}"': "', '.join(names)",
    "f'{a['k']:>{w['n']}.2f} {b!r}'": "a['k']",
    'f"{"\\n".join(x)}"': "bytes.fromhex('0a').decode().join(x)",
    'f"{f"{x["a"]}"} it\'s {{}}"': "x['a']",
    'f"{x["a"]}" "b"': "x['a']",
    'f"{\n x["a"]\n}"': "x['a']",
    'rf"\\d{x["a"]}"': "x['a']",
}


@pytest.mark.parametrize("code", NEWER)
def test_f_strings_of_python_312_are_read(code: str) -> None:
    tree = parse(f"value = {code}\nlast = 1\n")
    assert NEWER[code] in {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.expr)}
    assert tree.body[-1].lineno == 2 + code.count("\n")


@pytest.mark.parametrize(
    "code",
    [
        "a;" * MAX_TOKENS,
        "(" * 5000,
        "-" * 100_000 + "1",
        "1" + "+1" * 50_000,
        "x=" + "[" * 400 + "]" * 400,
        "a\0b",
        "f'{'",
    ],
)
def test_code_that_cannot_be_parsed_is_an_error(code: str) -> None:
    with pytest.raises(SyntaxError):
        parse(code)
