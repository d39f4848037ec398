"""The space, budgets and base recipe of the surrogate benchmark; imports no torch, so that strategies can use it.

Small enough that one core trains a recipe in seconds, and still with what makes search hard: learning rates that are
too large or too small, a best batch, warmdown and average that depend on the budget, a condition, bits against size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import qmc

from spaces.fields import set_values
from spaces.space import Choice, Integer, Param, Real, Space
from trainer.config import Budget, Recipe
from trainer.train_config import EmaConfig

VOCAB_SIZE = 512  # half the quickstart's: on a CPU the logits of 1024 took a third of a step
DRAW_SEED = 2026
BASE_VALUES: Mapping[str, Any] = {
    "model.vocab_size": VOCAB_SIZE,
    "model.num_layers": 2,
    "model.model_dim": 48,
    "model.num_heads": 2,
    "model.num_kv_heads": 1,
    "schedule.train_batch_tokens": 2048,
    "schedule.train_seq_len": 128,
    "schedule.warmdown_fraction": 0.3,
    "quant.clip": "sigma",
    "quant.clip_sigmas": 6.0,
    "quant.scale_is_floored": False,
    "quant.passthrough_numel": 256,  # the default would store every matrix here as fp16
    "compressor": "brotli",
}
BASE: Recipe = set_values(Recipe(), BASE_VALUES)
SPACE = Space(
    (
        Param("model.num_layers", Integer(1, 4)),
        Param("model.model_dim", Integer(24, 64, step=8)),
        Param("model.mlp_mult", Choice.of(1.0, 2.0, 3.0)),
        Param("optim.matrix_lr", Real(0.004, 0.4, log=True)),
        Param("optim.embed_lr", Real(0.004, 0.4, log=True)),
        Param("schedule.train_batch_tokens", Choice.of(512, 1024, 2048, 3072)),
        Param("schedule.warmdown_fraction", Real(0.0, 0.9)),
        Param("ema", Choice({"off": None, "on": EmaConfig()})),
        Param("ema.half_life_fraction", Real(0.004, 0.25, log=True)),
        Param("quant.matrix_bits", Integer(4, 8)),
        Param("quant.embed_bits", Choice.of(4, 6, 8, 16)),
        Param("quant.clip_sigmas", Real(2.5, 16.0, log=True)),
    )
)
PATHS = tuple(param.path for param in SPACE.params)
TRAIN_TOKENS = (24_576, 73_728, 221_184)  # of fidelity 0, 1 and 2: a third each, and 8 steps at least
EVAL_TOKENS = 16_384
BUDGETS = tuple(Budget(train_tokens=tokens, eval_tokens=EVAL_TOKENS) for tokens in TRAIN_TOKENS)
ARTIFACT_CAP = 80_000  # bytes; half the space is over it, and so is the best recipe there is without it
CURVE_POINTS = 8  # the cheapest run with the largest batch makes so many steps


@dataclass
class Point:
    """A trial whose suggestions lie at given places of their ranges; keeps what it suggested.

    Attributes:
        places: in [0, 1), by path.
    """

    places: Mapping[str, float]
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The number at the place."""
        place = self.places[name]
        value = low * (high / low) ** place if log else low + (high - low) * place
        return self.values.setdefault(name, round(value, 6))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """The whole number at the place."""
        count = (high - low) // step + 1
        return self.values.setdefault(name, low + step * int(self.places[name] * count))

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> str:
        """The label at the place."""
        return self.values.setdefault(name, choices[int(self.places[name] * len(choices))])


def sobol_recipes(count: int) -> Iterator[tuple[dict[str, Any], Recipe]]:
    """The first recipes of a scrambled Sobol sequence over the space, with the values a trial would suggest for each.

    Every beginning of the sequence covers the space evenly, so an unfinished set of runs does too.
    """
    sequence = qmc.Sobol(len(PATHS), rng=np.random.default_rng(DRAW_SEED))
    for places in sequence.random_base2(int(np.ceil(np.log2(max(count, 2)))))[:count]:
        point = Point(dict(zip(PATHS, map(float, places), strict=True)))
        recipe = SPACE.suggest(point, BASE)
        yield point.values, recipe


def values_of(recipe: Recipe) -> dict[str, Any]:
    """What a trial suggests for a recipe: the form in which recipes are stored here and given to the surrogate.

    Raises:
        SpaceError: the recipe is no point of the space.
    """
    return SPACE.fix(recipe, BASE)
