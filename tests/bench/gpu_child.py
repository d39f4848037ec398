"""What the scripts of the performance benchmark share: their command line, the recipe it means, and their output."""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny_recipes import shrink

from spaces.fields import set_values
from spaces.recipes import named_recipe
from trainer.config import Recipe
from trainer.environment import Environment, open_environment
from trainer.events import Event
from trainer.store_config import Compressor, Layout


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options that all of them have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="folder of shards with tokenizer.model")
    parser.add_argument("--recipe", default="naive_baseline", metavar="NAME")
    parser.add_argument("--tokens", type=int, help="a step, over all ranks; the recipe's unless given")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=NUMBER", help="other sizes than the recipe's"
    )
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a trial of this command")
    return parser


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe of a command line.

    Raises:
        SpaceError: no recipe or field has the name.
        ConfigError: the values of --set do not fit the recipe.
    """
    recipe = named_recipe(arguments.recipe)
    if arguments.tiny:
        return shrink(recipe)
    values: dict[str, Any] = {path: int(value) for path, _, value in (text.partition("=") for text in arguments.set)}
    if arguments.tokens:
        values["schedule.train_batch_tokens"] = arguments.tokens
    return set_values(recipe, values)


def without_packages(recipe: Recipe) -> Recipe:
    """The recipe with a compressor that is always there, where nothing is compressed."""
    return dataclasses.replace(recipe, compressor=Compressor.ZLIB, layout=Layout.PLAIN)


def data_variables(dataset: Path) -> dict[str, str]:
    """The trainer's variables that name a dataset."""
    return {"DATA_PATH": str(dataset.resolve()), "TOKENIZER_PATH": str((dataset / "tokenizer.model").resolve())}


def environment_of(arguments: argparse.Namespace) -> Environment:
    """This process's environment, one rank of several where torchrun started it."""
    return open_environment({**os.environ, **data_variables(arguments.dataset)})


def discard(event: Event) -> None:
    """Print nothing of the run."""


def write(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write what was measured, if a file was named."""
    if path is not None:
        path.write_text(json.dumps(result), encoding="utf-8")
