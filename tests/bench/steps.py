"""Times a training step and scoring at the naive baseline's shape, here: python tests/bench/steps.py DATA.

On a CPU the model is the quickstart's. Prints milliseconds a step and tokens a second; compare two commits on one
machine in one sitting, never across machines.
"""

import argparse
import dataclasses
import os
import statistics
import time
from pathlib import Path

import torch

from trainer.config import Recipe
from trainer.data import load_validation
from trainer.environment import Environment, open_environment
from trainer.evaluate import Scorer
from trainer.events import Event
from trainer.loop import SETTLING_STEPS, WARMUP_STEPS, Trainer
from trainer.model import new_model
from trainer.model_config import ModelConfig
from trainer.tokenizer import load_token_bytes
from trainer.train_config import ScheduleConfig

QUICKSTART_MODEL = ModelConfig(num_layers=3, model_dim=80, num_heads=4, num_kv_heads=2)


def discard(event: Event) -> None:
    """Print nothing of the run."""


def time_steps(recipe: Recipe, environment: Environment, repeats: int) -> float:
    """Median seconds of a step."""
    model = new_model(recipe.model, environment.compute_dtype, 0)
    trainer = Trainer(model.to(environment.device), recipe, environment, discard)
    trainer.warm_up(WARMUP_STEPS + SETTLING_STEPS)
    seconds: list[float] = []
    for _ in range(repeats):
        environment.synchronize()
        start = time.perf_counter()
        trainer.step(0.1)
        environment.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def time_scoring(recipe: Recipe, environment: Environment, num_tokens: int) -> float:
    """Seconds of sliding-window scoring, compiled beforehand: graphs are the functions', not the scorer's."""
    model = new_model(recipe.model, environment.compute_dtype, 0).to(environment.device)
    tokens = load_validation(environment.data_path, num_tokens, recipe.eval_seq_len, recipe.model.vocab_size)
    token_bytes = load_token_bytes(environment.tokenizer_path, recipe.model.vocab_size)
    warm = Scorer(model, tokens[: 2 * recipe.eval_seq_len + 1], token_bytes, recipe, environment)
    scorer = Scorer(model, tokens, token_bytes, recipe, environment)
    warm.sliding()
    environment.synchronize()
    start = time.perf_counter()
    scorer.sliding()
    environment.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of shards with tokenizer.model")
    data = parser.parse_args().data
    paths = {"DATA_PATH": str(data), "TOKENIZER_PATH": str(data / "tokenizer.model")}
    environment = open_environment({**os.environ, **paths})
    is_gpu = environment.device.type == "cuda"
    recipe = Recipe() if is_gpu else Recipe(model=QUICKSTART_MODEL)
    seq_len = 1024 if is_gpu else 256
    for batch_tokens in (131_072, 524_288) if is_gpu else (4_096, 8_192):
        schedule = ScheduleConfig(train_batch_tokens=batch_tokens, train_seq_len=seq_len)
        seconds = time_steps(dataclasses.replace(recipe, schedule=schedule), environment, 20)
        print(f"step of {batch_tokens:7,} tokens: {1000 * seconds:8.2f} ms, {batch_tokens / seconds:12,.0f} tokens/s")  # noqa: T201
    num_tokens = 1_048_576 if is_gpu else 16_384
    schedule = ScheduleConfig(train_batch_tokens=seq_len, train_seq_len=seq_len)
    seconds = time_scoring(dataclasses.replace(recipe, schedule=schedule), environment, num_tokens)
    print(f"sliding score, {num_tokens:,} tokens, stride 64: {seconds:.2f} s")  # noqa: T201
    print(f"on {environment.device_name}, torch {torch.__version__}")  # noqa: T201


if __name__ == "__main__":
    main()
