"""How large weights are after training, as far as it decides their bytes: the standard deviation by tensor.

Muon's updates are nearly orthogonal, so each step has a known size: DRIFT * lr / sqrt(columns) in the root mean square.
How much of them adds up is a random walk whose steps agree for as long as momentum remembers, pulled back by weight
decay. The three constants are one fit to the bytes of 12 runs of 512 and 576 columns in which they depend on the
weights' size (the scale floor): the baseline's shape for 89 to 2,735 steps at momentum 0.95 with and without decay, PR
163 (10,169 and 1,023 steps), and records 414 and 1218 at momentum 0.99. It meets each of them within 2 %.
"""

import math
from functools import lru_cache

from search.shapes import NamedShape
from trainer.config import Recipe
from trainer.model_config import MatrixInit
from trainer.roles import Role, role_of
from trainer.train_config import OptimConfig, ScheduleConfig

DRIFT = 0.71
PERSISTENCE = 21.4  # steps, at momentum 0.95; 1 / (1 - momentum) would be 20
PERSISTENCE_POWER = 1.22  # of what momentum remembers, next to 0.95
# A token table's step under Adam, as a share of its learning rate, from three runs of 300 steps and 2 to 3 layers.
TABLE_DRIFT = 0.75
PIECES = 200  # of the run, over each of which learning rate and momentum are taken as constant


def weight_std(columns: int, initial_std: float, optim: OptimConfig, schedule: ScheduleConfig, steps: int) -> float:
    """Standard deviation of a Muon matrix after so many steps.

    dv/dt = 2 c(t) - 2 decay v for the variance v, c the correlation of weight and step, solved piece by piece.
    """
    pieces = min(steps, PIECES)
    piece_steps, variance = steps / pieces, initial_std**2
    for piece in range(pieces):
        progress = (piece + 0.5) / pieces
        lr = optim.matrix_lr * lr_scale(progress, schedule)
        decay = lr * optim.muon_weight_decay
        rate = decay + 1 / persistence(progress, optim)
        correlation = (DRIFT * lr) ** 2 / columns / rate * -math.expm1(-rate * progress * steps)
        variance = after_decay(variance, 2 * correlation, decay, piece_steps)
    return math.sqrt(variance)


def table_std(initial_std: float, optim: OptimConfig, schedule: ScheduleConfig, steps: int) -> float:
    """Standard deviation of a token table after so many steps of Adam."""
    pieces = min(steps, PIECES)
    variance = initial_std**2
    for piece in range(pieces):
        lr = optim.embed_lr * lr_scale((piece + 0.5) / pieces, schedule)
        variance = after_decay(variance, (TABLE_DRIFT * lr) ** 2, lr * optim.embed_weight_decay, steps / pieces)
    return math.sqrt(variance)


def after_decay(variance: float, growth: float, decay: float, steps: float) -> float:
    """A variance that grows by so much a step while its weights shrink by a share decay, after some steps."""
    lost = -math.expm1(-2 * decay * steps)
    return variance * (1 - lost) + growth * (lost / (2 * decay) if lost > 1e-9 else steps)


def lr_scale(progress: float, schedule: ScheduleConfig) -> float:
    """Learning rate as a share of its peak."""
    falling = (1 - progress) / schedule.warmdown_fraction if schedule.warmdown_fraction else 1.0
    return max(min(falling, 1.0), schedule.lr_floor)


def persistence(progress: float, optim: OptimConfig) -> float:
    """Steps for which Muon's updates agree."""
    warm_at = optim.muon_momentum_warmup_fraction
    warmth = min(progress / warm_at, 1.0) if warm_at else 1.0
    momentum = optim.muon_momentum_start + warmth * (optim.muon_momentum - optim.muon_momentum_start)
    return PERSISTENCE * (0.05 / (1 - momentum)) ** PERSISTENCE_POWER


def std_of(tensor: NamedShape, recipe: Recipe, steps: int) -> float:
    """Standard deviation of a matrix or token table after training."""
    optim, schedule = recipe.optim, recipe.schedule
    if role_of(tensor.name) is Role.TABLE:
        initial = recipe.model.embed_init_std if tensor.name == "tok_emb" else 0.0
        return _table_std(initial, optim, schedule, steps)
    rows, columns = tensor.shape
    return _weight_std(
        columns, initial_std(tensor.name, rows, columns, recipe.model.matrix_init), optim, schedule, steps
    )


def initial_std(name: str, rows: int, columns: int, init: MatrixInit) -> float:
    """Of a matrix at the start: zero where its output is added to the stream or to values."""
    if name.endswith("proj.weight"):
        return 0.0
    return 1 / math.sqrt(max(rows, columns) if init is MatrixInit.ORTHOGONAL else 3 * columns)


_weight_std = lru_cache(maxsize=1024)(weight_std)
_table_std = lru_cache(maxsize=1024)(table_std)
