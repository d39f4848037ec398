"""The joined and packed trainer: that it is the same program, and that it runs as a file of its own."""

import ast
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_recipes import POSITIVE, recipes
from toy_package import MODULES, toy

from search.bundle import Bundle, bundle, flatten, pack, trainer_folder, unpack
from search.errors import BundleError
from search.render import render
from search.strip import program, strip
from trainer import config, eval_config, model_config, store_config, train_config
from trainer.config import Budget, Recipe
from trainer.eval_config import EvalConfig
from trainer.model_config import ModelConfig
from trainer.store_config import Compressor, QuantConfig
from trainer.train_config import EmaConfig, OptimConfig, ScheduleConfig

CONFIG_NAMES = MappingProxyType(
    {
        name: value
        for module in (config, eval_config, model_config, store_config, train_config)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
)


def toy_bundle(folder: Path) -> Bundle:
    return bundle(Recipe(), Budget(train_tokens=1), flatten(toy(folder)))


def run_file(packed: bytes, folder: Path, *launcher: str) -> subprocess.CompletedProcess[str]:
    """Run a packed file with a bare environment, far from the repository."""
    (folder / "train_gpt.py").write_bytes(packed)
    command = [sys.executable, *launcher, "train_gpt.py"]
    environment = {"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


# ---- the same program


def test_same_input_gives_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = toy_bundle(tmp_path / "a"), toy_bundle(tmp_path / "b")
    assert first == second
    assert first.sha256 == hashlib.sha256(first.packed).hexdigest()


def test_another_recipe_gives_other_bytes() -> None:
    trainer = flatten(trainer_folder())
    budget = Budget(train_tokens=1)
    assert bundle(Recipe(), budget, trainer) != bundle(Recipe(compressor=Compressor.LZMA), budget, trainer)
    assert bundle(Recipe(), budget, trainer) != bundle(Recipe(), Budget(train_tokens=2), trainer)


def test_what_is_packed_is_the_whole_source_stripped() -> None:
    """The trainer's part is stripped once for all recipes, the call of each by itself."""
    made = bundle(Recipe(), Budget(train_tokens=1))
    assert unpack(made.packed) == strip(made.source)


def test_packed_text_is_the_source_without_comments(tmp_path: Path) -> None:
    made = toy_bundle(tmp_path)
    text = unpack(made.packed)
    assert text == strip(made.source)
    assert "# a comment" in made.source
    assert "A square." in made.source
    assert "not executed" in made.source
    assert "comment" not in text.replace("not a comment", "")
    assert "A square." not in text


def without_docstrings(tree: ast.Module) -> ast.Module:
    """A second, plain way to drop docstrings: blank them, then drop what is blank."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def test_real_trainer_keeps_every_definition_of_every_module() -> None:
    made = bundle(Recipe(ema=EmaConfig()), Budget(train_seconds=600.0))
    joined = [ast.dump(node) for node in ast.parse(unpack(made.packed)).body]
    for path in trainer_folder().glob("*.py"):
        tree = without_docstrings(ast.parse(path.read_text()))
        for node in tree.body:
            if not isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
                assert ast.dump(node) in joined, f"{path.name}:{node.lineno}"


def test_real_trainer_imports_each_library_name_once() -> None:
    tree = ast.parse(bundle(Recipe(), Budget(train_tokens=1)).source)
    names = [ast.dump(alias) for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    assert len(names) == len(set(names))
    origins = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert len(origins) == len(set(origins))
    assert not any((origin or "").startswith("trainer") for origin in origins)


def test_packed_trainer_leaves_room_for_weights() -> None:
    # 60 KB with every technique of the records; the public baseline alone is 47,642 bytes, of plain code.
    assert len(bundle(Recipe(), Budget(train_tokens=1)).packed) < 62_000


def test_strip_keeps_a_body_for_what_had_only_a_docstring() -> None:
    text = 'class A:\n    "doc"\n    "more"\n\ndef f():\n    "doc"\n    # comment\n'
    assert strip(text) == "class A:\n    pass\ndef f():\n    pass\n"


def test_strip_leaves_strings_alone() -> None:
    text = 'x = """a  # b\n\n  # c\n"""  # gone\n\ny = f"{x!r:>{len(x)}} # d"\nz = "é"  # é\n'
    assert strip(text) == 'x = """a  # b\n\n  # c\n"""\ny = f"{x!r:>{len(x)}} # d"\nz = "é"\n'


def test_strip_takes_comments_inside_brackets_and_docstrings_over_lines() -> None:
    head = "def f(\n    a,  # one\n\n    # two\n    b,\n):\n"
    text = f'{head}    """Doc: é.\n\n    # not code\n    """  # noqa\n\n    return a\n'
    assert strip(text) == "def f(\n    a,\n    b,\n):\n    return a\n"


@pytest.mark.parametrize(
    "text", ['def f(): "doc"\n', 'def f():\n    "doc"; return 1\n', 'class A:\n    x = 1; "doc"\n']
)
def test_strip_refuses_docstrings_that_share_a_line(text: str) -> None:
    with pytest.raises(BundleError, match="expected docstrings on lines of their own"):
        strip(text)


@pytest.mark.parametrize("path", sorted(trainer_folder().parent.glob("*/*.py")), ids=lambda path: path.name)
def test_strip_keeps_the_program_of_every_file_of_ours(path: Path) -> None:
    text = path.read_text()
    stripped = strip(text)
    assert program(stripped) == program(text)
    assert strip(stripped) == stripped


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_unpack_reverses_pack(text: str) -> None:
    assert unpack(pack(text)) == text


@pytest.mark.parametrize("packed", [b"", b"print(1)\n", pack("x = 1\n")[:-1], pack("x = 1\n") + b"\nimport os\n"])
def test_unpack_refuses_what_pack_did_not_write(packed: bytes) -> None:
    with pytest.raises(BundleError, match=r"^train_gpt.py: expected a self-extracting file"):
        unpack(packed)


def test_unpack_refuses_a_damaged_payload() -> None:
    packed = pack("\n".join(f"x{n} = {n * n}" for n in range(500)))
    start = packed.index(b'b85decode("') + len(b'b85decode("')
    for damage in (b"0" * 20, b"\xff" * 20):
        with pytest.raises(BundleError, match="expected a payload that unpacks"):
            unpack(packed[:start] + damage + packed[start + 20 :])


# ---- configs as constructor calls


@settings(max_examples=50, deadline=None)
@given(recipes())
def test_rendered_recipe_evaluates_to_itself(recipe: Recipe) -> None:
    assert eval(render(recipe), dict(CONFIG_NAMES)) == recipe


@given(st.one_of(st.builds(Budget, train_seconds=POSITIVE), st.builds(Budget, train_tokens=st.integers(1, 10**12))))
def test_rendered_budget_evaluates_to_itself(budget: Budget) -> None:
    assert eval(render(budget), dict(CONFIG_NAMES)) == budget


def test_rendered_enum_is_its_member_and_every_field_is_named() -> None:
    text = render(Recipe())
    assert "compressor=Compressor.ZLIB" in text
    assert "clip=ClipRule.QUANTILE" in text
    for part in (Recipe, ModelConfig, OptimConfig, ScheduleConfig, QuantConfig, EvalConfig):
        for field in fields(part):
            assert f"{field.name}=" in text


def test_render_of_plain_values() -> None:
    assert render((1, -2.5, "it's", None, True)) == '(1, -2.5, "it\'s", None, True)'
    assert render((1,)) == "(1,)"
    assert render(()) == "()"


@dataclass(frozen=True)
class _Stranger:
    value: object


class _Odd(StrEnum):
    A = "a"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], {"a": 1}, object(), Path("x"), Recipe])
def test_render_refuses_what_has_no_literal(value: object) -> None:
    with pytest.raises(BundleError, match=r"^optim\.value: expected a number"):
        render(_Stranger(value), "optim")


def test_bundle_refuses_configs_of_other_packages(tmp_path: Path) -> None:
    trainer = flatten(toy(tmp_path))
    with pytest.raises(BundleError, match="expected configs of the trainer, got _Stranger"):
        bundle(_Stranger(1), Budget(train_tokens=1), trainer)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BundleError, match="expected configs of the trainer, got _Odd"):
        bundle(Recipe(compressor=_Odd.A), Budget(train_tokens=1), trainer)  # pyright: ignore[reportArgumentType]


# ---- runs as a file


def test_runs_by_python_with_its_own_path_and_sources(tmp_path: Path) -> None:
    made = toy_bundle(tmp_path)
    result = run_file(made.packed, tmp_path)
    assert result.returncode == 3, result.stderr
    facts = ast.literal_eval((tmp_path / "facts_0.json").read_text().replace("false", "False"))
    assert facts["area"] == 81
    assert facts["bytes"] == len(made.packed)
    assert (facts["kind"], facts["compressor"], facts["fast"]) == ("solid", "zlib", False)
    # Triton compiles from inspect.getsource; it must find exactly the function.
    assert facts["source"].startswith("def area_of(shape: Shape) -> int:")
    assert facts["source"].rstrip().endswith("assert_never(shape)")


def test_runs_by_torchrun_once_a_rank(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    packed = bundle(
        Recipe(), Budget(train_tokens=1), flatten(toy(tmp_path, main=MODULES["main"].replace("return 3", "return 0")))
    )
    result = run_file(packed.packed, tmp_path, *torchrun)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.glob("facts_*.json")) == ["facts_0.json", "facts_1.json"]


def test_traceback_shows_the_line_that_failed(tmp_path: Path) -> None:
    main = """
import traceback

def run(recipe, budget, code_path) -> int:
    try:
        return 1 // 0  # why
    except ZeroDivisionError:
        traceback.print_exc()
        return 1
"""
    result = run_file(bundle(Recipe(), Budget(train_tokens=1), flatten(toy(tmp_path, main=main))).packed, tmp_path)
    assert result.returncode == 1
    assert 'File "train_gpt.unpacked.py", line' in result.stderr
    assert "return 1 // 0" in result.stderr


def test_importing_the_file_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "train_gpt.py").write_bytes(toy_bundle(tmp_path).packed)
    command = [sys.executable, "-c", "import train_gpt; print(train_gpt.Square(side=2))"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("Square(side=2")
    assert not list(tmp_path.glob("facts_*"))
