"""Times sliding-window scoring: PYTHONPATH=.:tests python tests/bench/gpu_sliding.py --dataset FOLDER.

The validation split, scored as a run scores it after its warm-up, by a model that has trained a few steps. Then
a prefix of it once more by the definition, a window at a time, eager and without fast paths, in the same number format
and in float32: how far apart scores and single tokens are.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gpu_child import discard, environment_of, parser_of, recipe_of, without_packages, write
from torch import Tensor
from torch.nn import functional as F

from trainer.config import Budget
from trainer.environment import Environment
from trainer.evaluate import Scorer
from trainer.loop import Trainer
from trainer.model import Gpt, new_model
from trainer.phases import Session

TRAINED_STEPS = 50  # of untrained weights all tokens are about as likely, which would hide differences
PREFIX_WINDOWS = 1_024
RAGGED_TOKENS = 17  # of the prefix's last window


def trained_scorer(arguments: argparse.Namespace, environment: Environment) -> Scorer:
    """A scorer of the whole split, at the point where a run's evaluation would start."""
    recipe = without_packages(recipe_of(arguments))
    budget = Budget(
        train_tokens=recipe.schedule.train_batch_tokens, eval_tokens=4_096 if arguments.tiny else arguments.eval_tokens
    )
    session = Session(recipe, budget, environment, Path(), discard, time.perf_counter)
    model, tokens_T, token_bytes = session.setup()
    scorer = Scorer(model, tokens_T, token_bytes, recipe, environment)
    trainer = Trainer(model, recipe, environment, discard)
    session.warm_up(trainer, scorer)
    num_steps = 5 if arguments.tiny else TRAINED_STEPS
    for step in range(num_steps):
        trainer.step(step / num_steps)
    model.eval()
    trainer.release_memory()
    return scorer


def seconds_of(function: Callable[[], object], environment: Environment) -> float:
    """How long a call takes, the device's work included."""
    environment.synchronize()
    start = time.perf_counter()
    function()
    environment.synchronize()
    return time.perf_counter() - start


def plain_model(scorer: Scorer, dtype: torch.dtype) -> Gpt:
    """A model of the same weights, eager and without fast paths."""
    model = new_model(scorer.recipe.model, dtype, 0).to(scorer.environment.device).eval()
    model.load_state_dict(scorer.model.state_dict())
    return model


@torch.no_grad()
def window_by_window(model: Gpt, scorer: Scorer, tokens_T: Tensor) -> Tensor:
    """(P,) float64 nats by the definition: each token by the first window that has it among its scored ones."""
    positions, length, stride = len(tokens_T) - 1, scorer.seq_len, scorer.stride
    nats_P = torch.zeros(positions, dtype=torch.float64, device=tokens_T.device)
    for start in range(0, positions, stride):
        if start > 0 and start + length - stride >= positions:
            break
        end = min(start + length, positions)
        first = 0 if start == 0 else length - stride
        hidden_BTD = model(tokens_T[None, start:end], True, scorer.document_mask)
        targets_S = tokens_T[start + first + 1 : end + 1]
        nats_P[start + first : end] = F.cross_entropy(model.logits(hidden_BTD[0, first:]), targets_S, reduction="none")
    return nats_P


def compare(scorer: Scorer, num_windows: int) -> dict[str, Any]:
    """Scores and greatest differences on a prefix of the split, whose last window is ragged."""
    environment = scorer.environment
    num_tokens = scorer.seq_len + (num_windows - 1) * scorer.stride - scorer.stride + RAGGED_TOKENS + 1
    tokens_T = scorer.tokens_T[:num_tokens]
    short = Scorer(scorer.model, tokens_T, scorer.token_bytes, scorer.recipe, environment)
    record = short.slide()
    assert bool((record.times_P == 1).all()), "each token must be scored once"
    fast_P = record.losses_P.double()
    plain_P = window_by_window(plain_model(scorer, environment.compute_dtype), scorer, tokens_T)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    exact_P = window_by_window(plain_model(scorer, torch.float32), scorer, tokens_T)
    torch.set_float32_matmul_precision(precision)
    num_bytes = int(short.token_bytes.target_bytes(tokens_T[:-1], tokens_T[1:]).sum())
    bpb = {
        name: float(nats_P.sum()) / math.log(2) / num_bytes
        for name, nats_P in (("fast", fast_P), ("plain", plain_P), ("exact", exact_P))
    }
    return {
        "windows": num_windows,
        "tokens": len(tokens_T) - 1,
        "bpb": bpb,
        "fast_to_plain_nats": float((fast_P - plain_P).abs().max()),
        "fast_to_exact_nats": float((fast_P - exact_P).abs().max()),
        "plain_to_exact_nats": float((plain_P - exact_P).abs().max()),
    }


def main() -> None:
    """Measure, print a line and write the file."""
    parser = parser_of(__doc__)
    parser.add_argument("--eval-tokens", type=int, help="of the split; all unless given")
    arguments = parser.parse_args()
    environment = environment_of(arguments)
    scorer = trained_scorer(arguments, environment)
    non_overlapping = seconds_of(scorer.non_overlapping, environment)
    sliding = [seconds_of(scorer.sliding, environment) for _ in range(3)]
    result = {
        "recipe": arguments.recipe,
        "tokens": scorer.num_positions,
        "seq_len": scorer.seq_len,
        "stride": scorer.stride,
        "seconds": sliding[0],
        "again_seconds": sliding[1:],
        "non_overlapping_seconds": non_overlapping,
        "prefix": compare(scorer, 8 if arguments.tiny else PREFIX_WINDOWS),
    }
    print(f"{arguments.recipe}, {scorer.num_positions:,} tokens, stride {scorer.stride}: {sliding[0]:.2f} s")  # noqa: T201
    write(arguments.out, result)


if __name__ == "__main__":
    main()
