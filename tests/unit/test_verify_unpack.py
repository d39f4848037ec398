"""Self-extracting files: every way of wrapping is opened without running it, and what cannot be is said."""

import ast
import io
import time
import zipfile
import zlib

import pytest
from wrapped_sources import LATIN, SOURCE, WRAPPERS, Z, opened, zipped

from search.verify.python_text import MAX_TOKENS, parse
from search.verify.unpack import Unpacked


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
