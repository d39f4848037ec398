"""What joining refuses: rules on the trainer's source, each with a module that breaks it, and what they allow."""

from pathlib import Path

import pytest
from toy_package import toy

from search.bundle import flatten
from search.errors import BundleError

VIOLATIONS = [
    ("import toy.kinds\n", 1, "expected `from toy.x import Name`"),
    ("from toy import kinds\n", 1, "expected `from toy.x import Name`"),
    ("from toy.kinds import Kind as K\n", 1, "expected `from toy.x import Name`"),
    ("try:\n    from toy.kinds import A\nexcept ImportError:\n    A = 1\n", 2, "expected `from toy.x import Name`"),
    ("from toy.kinds import *\n", 1, "expected named imports"),
    ("from math import *\n", 1, "expected named imports"),
    ("from .kinds import Kind\n", 1, "expected an absolute import"),
    ("from toy.nowhere import Kind\n", 1, "expected a name that toy.nowhere defines"),
    ("from toy.kinds import Nothing\n", 1, "expected a name that toy.kinds defines, got Nothing"),
    ("from toy.kinds import StrEnum\n", 1, "expected a name that toy.kinds defines, got StrEnum"),
    ("def f():\n    from toy.kinds import Kind\n    return Kind\n", 2, "expected imports at the top only"),
    ("def f():\n    import json\n    return json\n", 2, "expected imports at the top only"),
    ("from dataclasses import dataclass as data\n", 1, "expected the spelling 'from dataclasses import dataclass"),
    ("import dataclasses as enum\nimport enum\n", 2, "expected enum to mean dataclasses, got enum"),
    ("from codecs import open\n", 1, "hides nothing of Python, got open"),
    ("import no_such_library\n", 1, "only in the guard of toy/kinds.py"),
    ("try:\n    import no_such_library\nexcept ImportError:\n    pass\n", 4, "expected name = None in a guard"),
    ("try:\n    import no_such_library\nexcept ImportError:\n    other = None\n", 2, "only in the guard of toy/"),
    ("try:\n    import abc\nexcept Exception:\n    abc = None\n", 1, "except ImportError"),
    ("try:\n    abc = 1\nexcept ImportError:\n    abc = None\n", 2, "expected an import inside a guard"),
    ("SIDES = 5\n", 1, "unique in toy, got SIDES, also in toy/shapes.py"),
    ("def json():\n    pass\n", 1, "unique in toy, got json, also in toy/main.py"),
    ("def compile():\n    pass\n", 1, "hides nothing of Python, got compile"),
    ("__all__ = ['a']\n", 1, "hides nothing of Python, got __all__"),
    ("print('hello')\n", 1, "expected an import, a def, a class"),
    ("if True:\n    A = 1\n", 1, "expected an import, a def, a class"),
    ("for a in ():\n    pass\n", 1, "expected an import, a def, a class"),
    ("A = 1\nA += 1\n", 2, "expected an import, a def, a class"),
    ("A = open('x')\n", 1, "expected a constant"),
    ("A = [n for n in (1, 2)]\n", 1, "expected a constant"),
    ("A = (B := 1)\n", 1, "expected a constant"),
    ("A = B = 1\n", 1, "expected one name"),
    ("A, B = 1, 2\n", 1, "expected one name"),
    ("import json\njson.switch = True\n", 2, "expected one name"),
    ("A: int\n", 1, "expected a value"),
    ("def f():\n    return __name__\n", 2, "must not be used: __name__"),
    ("def f():\n    return __file__\n", 2, "must not be used: __file__"),
    ("def f():\n    return globals()\n", 2, "must not be used: globals"),
    ("def f():\n    return exec('1')\n", 2, "must not be used: exec"),
    ("def f(x):\n    return x.__module__\n", 2, "must not be used: x.__module__"),
    ("def f(x):\n    return x.__doc__\n", 2, "must not be used: x.__doc__"),
    ("def f(torch):\n    torch.save({})\n", 2, "must not be used: torch.save"),
    ("A = 1\ndef f():\n    global A\n    A = 2\n", 3, "expected no mutable state"),
    ("import importlib\n", 1, "must not be imported: importlib"),
    ("import importlib.metadata\n", 1, "must not be imported: importlib"),
    ("import pickle\n", 1, "must not be imported: pickle"),
    ("from __future__ import annotations\n", 1, "must not be imported: __future__"),
    ("def f():\n    return SIDES\n", 2, "expected a name that is defined or imported here, got SIDES"),
    ("def f(x: Shape):\n    return x\n", 1, "expected a name that is defined or imported here, got Shape"),
    ("def f(:\n", 1, "expected Python, got a syntax error"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), VIOLATIONS)
def test_rule_names_file_line_and_what_was_expected(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        flatten(toy(tmp_path, zebra=text))
    assert str(caught.value).startswith(f"toy/zebra.py:{line}: "), caught.value
    assert message in str(caught.value)


def test_line_shared_by_import_and_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"toy/zebra.py:1: expected every import on lines of its own"):
        flatten(toy(tmp_path, zebra="import abc; A = 1\n"))


def test_circle_of_imports_is_refused(tmp_path: Path) -> None:
    package = toy(tmp_path, a="from toy.b import g\ndef f():\n    g()\n", b="from toy.a import f\ndef g():\n    f()\n")
    with pytest.raises(BundleError, match=r"^toy: imports must not form a circle, got (a -> b -> a|b -> a -> b)$"):
        flatten(package)


def test_init_with_code_is_refused(tmp_path: Path) -> None:
    package = toy(tmp_path)
    (package / "__init__.py").write_text("import json\n")
    with pytest.raises(BundleError, match=r"toy/__init__.py:1: must hold a docstring only"):
        flatten(package)


def test_package_inside_the_package_is_refused(tmp_path: Path) -> None:
    package = toy(tmp_path)
    (package / "inner").mkdir()
    (package / "inner" / "a.py").write_text("")
    with pytest.raises(BundleError, match="toy: expected modules only, got the package inner"):
        flatten(package)


def test_package_without_entry_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"toy/main.py: expected a function run"):
        flatten(toy(tmp_path, main="def walk():\n    pass\n"))


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected Python modules, got none"):
        flatten(tmp_path)


ALLOWED = [
    "import struct\nimport math\nLN2 = math.log(2.0)\nHEADER = struct.Struct('<I')\nNAMES = frozenset({'a'})\n",
    "from collections.abc import Callable\nfrom toy.kinds import Kind\nA = Kind | None\nB = Callable[[A], None]\n",
    "import torch\nimport torch.distributed as dist\nfrom torch import Tensor\nfrom torch.nn import functional as F\n",
    "try:\n    import no_lib.a as a\nexcept ImportError:\n    a = None\n    HAS_A = False\nelse:\n    HAS_A = True\n",
    "def f(x):\n    def inner():\n        nonlocal x\n        x = 1\n    return inner, type(x).__name__, x.eval()\n",
    "class A:\n    x = 1\n    y = [n for n in range(x)]\n    def f(self):\n        return {k: v for k, v in ()}\n",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_the_rules_allow(tmp_path: Path, text: str) -> None:
    assert flatten(toy(tmp_path, zebra=text)).names
