"""The caddie train command: one run without a study, on this machine."""

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
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
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help=f"A named recipe ({', '.join(NAMES)}) or a JSON file of one.")],
    set_: Annotated[
        list[str], typer.Option("--set", help="A field, as in --set model.num_layers=11; repeatable.")
    ] = [],  # noqa: B006 - typer's form
    seconds: Annotated[float | None, typer.Option(help="Train so long.", show_default="60, without --tokens")] = None,
    tokens: Annotated[int | None, typer.Option(help="Train on so many tokens, however long it takes.")] = None,
    eval_tokens: Annotated[int | None, typer.Option(help="Validation tokens to score.", show_default="all")] = None,
    world_size: Annotated[int, typer.Option(help="Processes, one a GPU: 1, 2, 4 or 8.")] = 1,
    data: Annotated[Path, typer.Option(help="Folder of shards.")] = Path("data/quickstart"),
    tokenizer: Annotated[
        Path | None, typer.Option(help="A SentencePiece model.", show_default="tokenizer.model in the folder of shards")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the initial weights.")] = 1337,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
) -> None:
    """One run without a study, on this machine."""
    console = Console()
    chosen = set_values(chosen_recipe(recipe), assignments(set_))
    if seconds is None and tokens is None:
        seconds = 60.0
    budget = Budget(train_seconds=seconds, train_tokens=tokens, world_size=world_size, eval_tokens=eval_tokens)
    from search.drive import Place, train_once  # takes a second: after what can be wrong without it

    place = Place(storage=storage, runs=runs, address=LOCAL)
    with progress_shown(console) as report:
        folder, finished = train_once(
            chosen, budget, place, data, tokenizer or data / "tokenizer.model", seed, context.obj, report
        )  # fmt: skip
    if isinstance(finished.outcome, Failure):
        raise SearchError(f"{folder}: {finished.outcome.kind.value}: {finished.outcome.message}")
    result = finished.outcome
    console.print(
        f"val_bpb {result.val_bpb:.4f} (non-overlapping {result.pre_quant_val_bpb:.4f} before and"
        f" {result.post_quant_val_bpb:.4f} after quantization), {result.artifact_bytes:,} bytes,"
        f" {result.steps} steps of {result.step_avg_ms:.1f} ms.",
        highlight=False,
    )
    console.print(f"Its log, code and weights: {folder}", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def progress_shown(console: Console) -> Generator[Callable[[Mapping[str, Any]], None]]:
    """What to call with progress: a line that changes on a terminal, a line now and then elsewhere."""
    from search.display import PLAIN_SECONDS, describe_progress

    printed_at = float("-inf")

    def show(values: Mapping[str, Any]) -> None:
        nonlocal printed_at
        line.update(describe_progress(values))
        if not console.is_terminal and time.monotonic() - printed_at >= PLAIN_SECONDS:
            printed_at = time.monotonic()
            console.print(describe_progress(values), soft_wrap=True, highlight=False)

    with console.status("starting") as line:
        yield show


def chosen_recipe(text: str) -> Recipe:
    """A named recipe, or one from a JSON file.

    Raises:
        SpaceError: it is neither.
    """
    if not text.endswith(".json"):
        return named_recipe(text)
    try:
        values = json.loads(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise SpaceError(f"{text}: expected a recipe as JSON, got {error.strerror}") from error
    except ValueError as error:
        raise SpaceError(f"{text}: expected a recipe as JSON, got {error}") from error
    if not isinstance(values, dict):
        raise SpaceError(f"{text}: expected a recipe as a JSON object, got {type(values).__name__}")
    return recipe_from_dict(values)


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Every --set, by path.

    Raises:
        SpaceError: one has no equals sign, or two set the same field.
    """
    values: dict[str, Any] = {}
    for path, value in map(assignment, texts):
        if path in values:
            raise SpaceError(f"--set {path}: expected once, got {values[path]!r} and {value!r}")
        values[path] = value
    return values


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
