"""Recipes as points for a regression: each feature spans about 0 to 1 over the space, and is smooth in what it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np
from bench.surrogate_regression import Array
from bench.surrogate_space import VOCAB_SIZE

NO_AVERAGE_PLACE = -0.1  # an average over ever shorter times ends in none, just beyond the shortest searched
GAUSSIAN_BITS = 4.133  # a Gaussian of deviation s in steps of d has log2(4.133 s / d) bits a number
FP16_BITS = 13.5  # what weights of 16 bits compress to


@dataclass(frozen=True, slots=True)
class Features:
    """A recipe's features, by what they have an effect on.

    Attributes:
        shape: what a step costs: layers, width, MLP, batch.
        training: all but how weights are stored.
        storage: training, and the steps and clip of rounding.
        log_bytes: of the weights, by counting their entropy, which a regression then corrects.
    """

    shape: Array
    training: Array
    storage: Array
    log_bytes: float


def features_of(values: Mapping[str, Any]) -> Features:
    """The features of a recipe, given as what a trial suggests; numbers may be text."""
    layers, width = float(values["model.num_layers"]), float(values["model.model_dim"])
    mlp_mult, batch = float(values["model.mlp_mult"]), float(values["schedule.train_batch_tokens"])
    shape = [(layers - 1) / 3, log2(width / 24) / log2(64 / 24), (mlp_mult - 1) / 2, log2(batch / 512) / log2(6)]
    training = [
        *shape,
        log2(float(values["optim.matrix_lr"]) / 0.004) / log2(100),
        log2(float(values["optim.embed_lr"]) / 0.004) / log2(100),
        float(values["schedule.warmdown_fraction"]) / 0.9,
        average_place(values),
    ]
    matrix_bits, embed_bits = int(values["quant.matrix_bits"]), int(values["quant.embed_bits"])
    sigmas = float(values["quant.clip_sigmas"])
    steps = [step_place(matrix_bits, sigmas), step_place(embed_bits, sigmas), log2(sigmas / 2.5) / log2(6.4)]
    matrix_numbers = layers * width**2 * (3 + 2 * mlp_mult)  # one head of keys and values for two of queries
    bits = matrix_numbers * coded_bits(matrix_bits, sigmas) + VOCAB_SIZE * width * coded_bits(embed_bits, sigmas)
    return Features(np.array(shape), np.array(training), np.array(training + steps), float(np.log(bits / 8)))


def average_place(values: Mapping[str, Any]) -> float:
    """Where an average of the weights lies on the log scale of its half-life."""
    half_life = values.get("ema.half_life_fraction")
    is_on = values["ema"] == "on"
    return log2(float(half_life or 0.033) / 0.004) / log2(62.5) if is_on else NO_AVERAGE_PLACE


def step_place(bits: int, sigmas: float) -> float:
    """Where the width of a rounding step lies on its log scale, in standard deviations of the weights."""
    levels = 2 ** (min(bits, 11) - 1) - 1  # fp16 has a mantissa of 11 bits, and clips nothing
    clip = sigmas if bits < 16 else 2.5
    return log2(clip / levels / 0.0197) / log2(16 / 7 / 0.0197)  # from 8 bits at the closest clip to 4 at the widest


def coded_bits(bits: int, sigmas: float) -> float:
    """About the bits that a weight compresses to."""
    if bits == 16:
        return FP16_BITS
    return max(min(bits, log2(GAUSSIAN_BITS * (2 ** (bits - 1) - 1) / sigmas)), 1.0)
