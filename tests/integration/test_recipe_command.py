"""The caddie recipe commands, by the real command in an empty folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import caddie

from search.shapes import num_parameters
from search.size import predicted_weight_bytes
from spaces.fields import recipe_from_dict
from spaces.recipes import NAMES, named_recipe


def test_list_has_every_recipe_with_its_size(tmp_path: Path) -> None:
    text = caddie(tmp_path, "recipe", "list")
    for name in NAMES:
        line = next(line for line in text.splitlines() if f" {name} " in line)
        assert f"{num_parameters(named_recipe(name)):,}" in line
        assert f"{predicted_weight_bytes(named_recipe(name)):,}" in line
    assert list(tmp_path.iterdir()) == []


def test_show_says_what_a_recipe_is_and_takes(tmp_path: Path) -> None:
    text = " ".join(caddie(tmp_path, "recipe", "show", "record_1855").replace("│", " ").split())
    assert "11 layers, width 512" in text
    assert "35,945,671" in text
    assert "426.3 MFLOP a token, forward and backward (284.7 before the loop goes on)" in text
    assert f"{predicted_weight_bytes(named_recipe('record_1855')):,} bytes predicted after" in text
    assert "16,000,000)" in text
    assert "XSA in all layers" in text


def test_show_for_programs_has_every_field(tmp_path: Path) -> None:
    facts = json.loads(caddie(tmp_path, "recipe", "show", "pr333", "--json"))
    recipe = named_recipe("pr333")
    assert recipe_from_dict(facts["recipe"]) == recipe
    assert facts["parameters"] == 25_388_121
    assert facts["flops_per_token"] == facts["flops_per_token_before_loop"] > 2e8
    predicted = facts["predicted"]
    assert predicted["weight_bytes"] == predicted_weight_bytes(recipe, predicted["steps"])
    assert predicted["artifact_bytes"] == predicted["weight_bytes"] + predicted["code_bytes"]
    assert predicted["artifact_bytes_limit"] == 16_000_000


@pytest.mark.parametrize("arguments", [("show", "pr162"), ("show", "pr162", "--json")])
def test_an_unknown_name_is_one_line_with_a_close_one(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "search", "recipe", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "did you mean pr163?" in done.stderr or "did you mean pr122?" in done.stderr
    assert "got 'pr162'" in done.stderr


def test_neither_command_needs_torch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['caddie', 'recipe', 'show', 'pr163'];"
        "from search.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "16,864,760" in done.stdout
