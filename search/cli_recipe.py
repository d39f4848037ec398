"""The caddie recipe commands: named recipes, what they are and what they would take."""

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.flops import flops_per_token
from search.shapes import num_parameters
from search.size import full_run_steps, predicted_weight_bytes
from search.spec_parts import Limits
from search.technique import words
from search.techniques import techniques_by_part
from spaces.fields import recipe_to_dict
from spaces.recipes import NAMES, named_recipe
from trainer.config import Budget, Recipe

recipe_app = typer.Typer(no_args_is_help=True, help="Named recipes: what they are and what they would take.")
FULL_RUN = Budget(train_seconds=600, world_size=8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What is known of a recipe before it runs: of the challenge's full run, 600 s on 8 H100.

    Attributes:
        plain_flops: forward and backward arithmetic of a token before the model's loop goes on; see search.flops.
        looped_flops: the same afterwards; equal where there is no loop.
        code_bytes: of the packed train_gpt.py.
    """

    parameters: int
    plain_flops: int
    looped_flops: int
    steps: int
    weight_bytes: int
    code_bytes: int

    @property
    def artifact_bytes(self) -> int:
        """Code and weights."""
        return self.code_bytes + self.weight_bytes


@recipe_app.command("list")
def list_recipes() -> None:
    """All named recipes, a line each."""
    table = Table(title="Named recipes", title_justify="left")
    for column in ("name", "parameters", "MFLOP/token", "weight bytes", "stored as"):
        table.add_column(column, justify="left" if column in {"name", "stored as"} else "right", no_wrap=True)
    for name in NAMES:
        recipe = named_recipe(name)
        table.add_row(
            name,
            f"{num_parameters(recipe):,}",
            f"{flops_per_token(recipe) / 1e6:,.0f}",
            f"{predicted_weight_bytes(recipe):,}",
            f"int{recipe.quant.matrix_bits}, {recipe.compressor.value}",
        )
    console = Console()
    console.print(table)
    line = "Weight bytes are predicted for 600 s on 8 H100. Next: caddie recipe show NAME"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


@recipe_app.command()
def show(
    name: Annotated[str, typer.Argument(help="A named recipe; caddie recipe list has them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything with every field, for programs.")] = False,
) -> None:
    """A recipe's shape and techniques, its parameters and arithmetic, the bytes it is predicted to take."""
    recipe = named_recipe(name)
    estimate = estimate_of(recipe)
    if as_json:
        sys.stdout.write(json.dumps(facts_of(name, recipe, estimate), indent=1) + "\n")
        return
    table = Table(title=name, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for key, value in rows_of(recipe, estimate):
        table.add_row(key, Text(value))
    Console().print(table)


def estimate_of(recipe: Recipe) -> Estimate:
    """What a recipe would take."""
    from search.bundle import bundle  # reads the whole trainer

    steps = full_run_steps(recipe)
    return Estimate(
        parameters=num_parameters(recipe),
        plain_flops=flops_per_token(recipe, is_looped=False),
        looped_flops=flops_per_token(recipe),
        steps=steps,
        weight_bytes=predicted_weight_bytes(recipe, steps),
        code_bytes=len(bundle(recipe, FULL_RUN).packed),
    )


def rows_of(recipe: Recipe, estimate: Estimate) -> list[tuple[str, str]]:
    """What show prints."""
    per_token = f"{estimate.looped_flops / 1e6:,.1f} MFLOP a token, forward and backward"
    if estimate.plain_flops != estimate.looped_flops:
        per_token += f" ({estimate.plain_flops / 1e6:,.1f} before the loop goes on)"
    return [
        *((part, words(techniques) or "none") for part, techniques in techniques_by_part(recipe).items()),
        ("parameters", f"{estimate.parameters:,}"),
        ("arithmetic", per_token),
        ("weights", f"{estimate.weight_bytes:,} bytes predicted after {estimate.steps:,} steps (600 s on 8 H100)"),
        ("artifact", f"{bytes_text(estimate.artifact_bytes)}, {estimate.code_bytes:,} of them code"),
    ]


def bytes_text(artifact_bytes: int) -> str:
    """Bytes next to the challenge's cap."""
    cap = Limits().artifact_bytes
    room = cap - artifact_bytes
    return f"{artifact_bytes:,} ({abs(room):,} {'under' if room >= 0 else 'over'} {cap:,})"


def facts_of(name: str, recipe: Recipe, estimate: Estimate) -> dict[str, Any]:
    """What show prints for programs."""
    return {
        "name": name,
        "parameters": estimate.parameters,
        "flops_per_token": estimate.looped_flops,
        "flops_per_token_before_loop": estimate.plain_flops,
        "predicted": {
            "steps": estimate.steps,
            "weight_bytes": estimate.weight_bytes,
            "code_bytes": estimate.code_bytes,
            "artifact_bytes": estimate.artifact_bytes,
            "artifact_bytes_limit": Limits().artifact_bytes,
        },
        "recipe": recipe_to_dict(recipe),
    }
