"""Runs of a study of two params in two rungs, whose scores follow a law that the joint model can learn."""

import json
import math
from typing import Any

from made_trials import made_row

from search.trials import TrialRow
from spaces.fields import recipe_hash, recipe_to_dict, set_values
from trainer.config import Recipe

LAYERS, RATE = "model.num_layers", "optim.matrix_lr"
RATES = (0.02, 0.05)


def row(rung: str, number: int, layers: int, rate: float, val_bpb: float, **attributes: Any) -> TrialRow:
    params = {LAYERS: layers, RATE: rate}
    recipe = set_values(Recipe(), params)
    known = {"recipe": json.dumps(recipe_to_dict(recipe)), "recipe_hash": recipe_hash(recipe), "seed": 1}
    return made_row({**known, "val_bpb": val_bpb, **attributes}, rung=rung, number=number, params=params)


def law(layers: int, rate: float, best: int) -> float:
    return 1.2 + 0.004 * (layers - best) ** 2 + 0.02 * math.log(rate / 0.05) ** 2


# Proxies are best with 4 layers, dear runs with 9.
POINTS = [(layers, rate) for layers in range(1, 13) for rate in RATES]
PROXIES = [row("proxy", number, *point, law(*point, best=4)) for number, point in enumerate(POINTS)]
DEARS = [
    row("full", place, layers, 0.02, law(layers, 0.02, best=9)) for place, layers in enumerate((2, 4, 6, 8, 10, 12))
]
