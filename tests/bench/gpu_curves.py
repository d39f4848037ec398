"""Trains with and without fast paths: PYTHONPATH=.:tests python tests/bench/gpu_curves.py --dataset FOLDER.

Same seeds, same text in the same order: what two curves differ by is rounding, and what it grows to. Seeds tell how far
curves part anyway.
"""

import argparse
import os
from typing import Any

import torch
from gpu_cases import PATHS
from gpu_child import data_variables, parser_of, recipe_of, write
from gpu_step import settled_trainer

from trainer.config import Recipe
from trainer.environment import open_environment

STEPS, TINY_STEPS = 500, 20
WINDOWS = 10  # a curve is given as means of so many equal parts
SEEDS = (1337, 42)
WAYS = {"fast": (), "plain": PATHS}  # paths not to take


def curve(recipe: Recipe, without: tuple[str, ...], variables: dict[str, str], steps: int) -> list[float]:
    """Mean training loss in nats over each window of a run."""
    environment = open_environment(variables)
    trainer = settled_trainer(recipe, without, environment)
    losses_S = torch.stack([trainer.step(step / steps) for step in range(steps)]).double()
    environment.close()
    torch.compiler.reset()
    return [float(window.mean()) for window in losses_S.chunk(WINDOWS)]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Curves of each seed, with and without."""
    recipe, steps = recipe_of(arguments), TINY_STEPS if arguments.tiny else STEPS
    variables = {**os.environ, **data_variables(arguments.dataset)}
    curves = {
        way: [curve(recipe, without, {**variables, "SEED": str(seed)}, steps) for seed in SEEDS]
        for way, without in WAYS.items()
    }
    return {
        "recipe": arguments.recipe,
        "tokens": recipe.schedule.train_batch_tokens,
        "steps": steps,
        "seeds": SEEDS,
        "curves": curves,
    }


def main() -> None:
    """Measure, print the last windows and write the file."""
    arguments = parser_of(__doc__).parse_args()
    result = measure(arguments)
    for way, curves in result["curves"].items():
        print(f"{result['recipe']}, {way}: last windows {[round(one[-1], 4) for one in curves]} nats")  # noqa: T201
    write(arguments.out, result)


if __name__ == "__main__":
    main()
