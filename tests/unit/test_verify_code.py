"""Verification of the code: no network, no other programs, nothing hidden or beside it."""

from pathlib import Path
from typing import Any

import pytest
from broken_folders import edit, edit_json, problems, refused_by, rules, with_code

from search.bundle import pack
from search.verify.check import verify
from search.verify.finding import Finding, Severity, is_valid


def broken_code(folder: Path, code: str, *, is_packed: bool = True) -> list[Finding]:
    """Findings on a folder whose code is swapped for another of the same size."""
    out = with_code(folder, "x = 1\n")
    packed = pack(code) if is_packed else code.encode()
    for log in out.glob("train_seed*.log"):
        text = log.read_text()
        shipped = len(pack("x = 1\n"))
        text = text.replace(f"Code size: {shipped} ", f"Code size: {len(packed)} ")
        log.write_text(text.replace(f"zlib: {shipped + 23} ", f"zlib: {len(packed) + 23} "))
    (out / "train_gpt.py").write_bytes(packed)
    (out / "train_gpt_readable.py").unlink()

    def count(values: dict[str, Any]) -> None:
        values.update(bytes_code=len(packed), bytes_total=len(packed) + 23)
        for result in values["seed_results"].values():
            result["artifact_bytes"] = len(packed) + 23

    edit_json(out, count)
    return problems(out)


NETWORK = [
    "import socket\n",
    "import urllib.request\n",
    "from urllib import request\n",
    "import requests\n",
    "def f():\n    import http.client\n",
    "try:\n    from huggingface_hub import snapshot_download\nexcept ImportError:\n    pass\n",
    "import torch\ntorch.hub.load('a', 'b')\n",
    "from torch import hub\n",
]
PROCESSES = [
    "import subprocess\nsubprocess.run(['ls'])\n",
    "from subprocess import run\nrun('ls')\n",
    "import os\nos.system('ls')\n",
    "from os import popen\n",
    "import os\nos.execv('a', ['a'])\n",
]
OPAQUE = ["eval('1')\n", "__import__('math')\n", "import importlib\n", "import pickle\n", "import ctypes\n"]


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize(("code", "rule"), [(c, "network") for c in NETWORK] + [(c, "process") for c in PROCESSES])
def test_no_network_and_no_other_programs(tmp_path: Path, code: str, rule: str, is_packed: bool) -> None:
    findings = broken_code(tmp_path, f"x = 1\n{code}", is_packed=is_packed)
    assert rules(findings, Severity.REFUSE) == [rule]
    assert findings[0].line is not None and findings[0].line >= 2
    assert ("unpacked" in findings[0].file) == is_packed


@pytest.mark.parametrize("code", OPAQUE)
def test_code_that_hides_from_checks_is_reviewed(tmp_path: Path, code: str) -> None:
    findings = broken_code(tmp_path, code)
    assert rules(findings, Severity.REVIEW) == ["opaque"]
    assert is_valid(findings)


def test_names_that_only_look_like_it_pass(tmp_path: Path) -> None:
    code = "import os\nmodel = nn.Linear(1, 1)\nmodel.eval()\nsocket = requests = 1\nsocket.real\nos.path.join('a')\n"
    assert broken_code(tmp_path, code) == []


def test_another_wrapper_is_read_as_it_lies_there(tmp_path: Path) -> None:
    code = "import base64, zlib\nexec(zlib.decompress(base64.b85decode('abc')))\n"
    assert rules(broken_code(tmp_path, code, is_packed=False), Severity.REFUSE) == ["opaque"]


@pytest.mark.parametrize("is_packed", [True, False])
def test_code_that_is_not_python(tmp_path: Path, is_packed: bool) -> None:
    findings = broken_code(tmp_path, "def f(:\n", is_packed=is_packed)
    assert rules(findings, Severity.REFUSE) == ["opaque" if is_packed else "code"]


@pytest.mark.parametrize("name", ["helper.py", "helper.so", "helper/__init__.py"])
def test_import_of_code_beside_it(tmp_path: Path, name: str) -> None:
    out = with_code(tmp_path, "from helper import trick\n")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("trick = 1\n")
    findings = verify(out)
    assert rules(findings, Severity.REFUSE) == ["single-file"]
    assert findings[0].line == 1


def test_import_that_a_file_beside_it_would_shadow(tmp_path: Path) -> None:
    out = with_code(tmp_path, "import json\n")
    (out / "json.py").write_text("trick = 1\n")
    assert rules(verify(out), Severity.REFUSE) == ["single-file"]


@pytest.mark.parametrize("name", ["prepare.py", "kernel.cu", "run.sh", "lib/a.cpp"])
def test_more_code_is_reviewed(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x = 1\n")
    assert rules(verify(folder), Severity.REVIEW) == ["single-file"]


def test_readable_copy_of_another_program(folder: Path) -> None:
    edit(folder / "train_gpt_readable.py", "def run():", "def walk():")
    assert refused_by(folder) == ["readable-copy"]


def test_readable_copy_may_have_comments(folder: Path) -> None:
    edit(folder / "train_gpt_readable.py", "def run():", 'def run():  # why\n    """Docs."""')
    assert problems(folder) == []


def test_requirement_left_out_is_reviewed(tmp_path: Path) -> None:
    out = with_code(
        tmp_path,
        "import torch\nimport flash_attn.cute\ntry:\n    import brotli\nexcept ImportError:\n    brotli = None\n",
    )
    assert problems(out) == []
    edit(out / "requirements.txt", "flash-attn\n", "")
    findings = verify(out)
    assert rules(findings, Severity.REVIEW) == ["requirements"]
    (out / "requirements.txt").write_text("# torch\nFlash-Attn>=4  # kernels\n")
    assert [finding.message.split(",")[0] for finding in problems(out)] == ["expected torch"]
