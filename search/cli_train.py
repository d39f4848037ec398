"""The caddie train command: one run without a study, on this machine."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from search.cli_options import LOCAL, RUNS, STORAGE, Runs, Storage
from search.errors import SearchError
from spaces.fields import SpaceError, recipe_from_dict, set_values
from spaces.recipes import NAMES, named_recipe
from trainer.config import Budget, Recipe
from trainer.result import Failure


def train(
    recipe: Annotated[str, typer.Argument(help=f"A named recipe ({', '.join(NAMES)}) or a JSON file of one.")],
    set_: Annotated[list[str], typer.Option("--set", help="A field, as in --set model.num_layers=11.")] = [],  # noqa: B006 - typer's form
    seconds: Annotated[float | None, typer.Option(help="Train for so long; 60 if no --tokens is given.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Train on so many tokens instead.")] = None,
    eval_tokens: Annotated[int | None, typer.Option(help="Score so many tokens; none scores all.")] = None,
    world_size: Annotated[int, typer.Option(help="Processes, one a GPU; divides 8.")] = 1,
    data: Annotated[Path, typer.Option(help="Folder of shards.")] = Path("data/quickstart"),
    tokenizer: Annotated[Path | None, typer.Option(help="None takes tokenizer.model beside the shards.")] = None,
    seed: Annotated[int, typer.Option(help="Of the initial weights.")] = 1337,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
) -> None:
    """One run without a study, on this machine."""
    from search.display import describe_progress
    from search.drive import Place, train_once

    console = Console()
    chosen = set_values(chosen_recipe(recipe), dict(assignment(text) for text in set_))
    if seconds is None and tokens is None:
        seconds = 60.0
    budget = Budget(train_seconds=seconds, train_tokens=tokens, world_size=world_size, eval_tokens=eval_tokens)
    place = Place(storage=storage, runs=runs, address=LOCAL)
    with console.status("starting") as line:
        folder, finished = train_once(
            chosen, budget, place, data, tokenizer or data / "tokenizer.model", seed,
            report=lambda values: line.update(describe_progress(values)),
        )  # fmt: skip
    if isinstance(finished.outcome, Failure):
        raise SearchError(f"{folder}: {finished.outcome.kind.value}: {finished.outcome.message}")
    result = finished.outcome
    console.print(
        f"val_bpb {result.val_bpb:.4f} (non-overlapping {result.pre_quant_val_bpb:.4f} before and"
        f" {result.post_quant_val_bpb:.4f} after quantization), {result.artifact_bytes:,} bytes,"
        f" {result.steps} steps of {result.step_avg_ms:.1f} ms: {folder}",
        soft_wrap=True,
        highlight=False,
    )


def chosen_recipe(text: str) -> Recipe:
    """A named recipe, or one from a JSON file.

    Raises:
        SpaceError: it is neither.
    """
    if not text.endswith(".json"):
        return named_recipe(text)
    try:
        return recipe_from_dict(json.loads(Path(text).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SpaceError(f"{text}: expected a recipe as JSON, got {error}") from error


def assignment(text: str) -> tuple[str, Any]:
    """A field and its value; the value is read as JSON, or else as text.

    Raises:
        SpaceError: there is no equals sign.
    """
    path, sign, value = text.partition("=")
    if not sign:
        raise SpaceError(f"--set {text}: expected path=value")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value
