"""Named recipes: starting points that study files and the command line refer to by name."""

from collections.abc import Mapping
from types import MappingProxyType

from spaces.fields import SpaceError, close_match
from spaces.records import record_162, record_414, record_1218, record_1493, record_1855
from spaces.seeds import pr122, pr163, pr333, pr340
from trainer.config import Recipe
from trainer.store_config import ClipRule, Compressor, QuantConfig
from trainer.train_config import EmaConfig, OptimConfig, ScheduleConfig

_RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # The challenge's starting point (2026-03-17, 1.2244).
        "naive_baseline": Recipe(),
        # The learning rates, momentum and warmdown of March's records on the baseline's shape; .02 instead of .04 alone
        # was worth .0056 (03-18 LowerLR). 3,000 warmdown steps of about 13,780.
        "lower_lr": Recipe(
            optim=OptimConfig(
                matrix_lr=0.02,
                embed_lr=0.03,
                scalar_lr=0.02,
                muon_momentum=0.99,
                muon_momentum_start=0.92,
                muon_momentum_warmup_fraction=0.109,  # 1,500 steps
            ),
            schedule=ScheduleConfig(warmdown_fraction=0.218),
        ),
        # Weights averaged from the first step; the rest of the baseline unchanged.
        "baseline_ema": Recipe(ema=EmaConfig()),
        # How PR 162 stores weights (row-max int6 without a scale floor, fp16 embedding, zstd), with its weight decay:
        # 12.1 MB as search/size.py predicts, where the baseline takes 15.8.
        "baseline_int6": Recipe(
            optim=OptimConfig(muon_weight_decay=0.04),
            quant=QuantConfig(matrix_bits=6, embed_bits=16, clip=ClipRule.ROW_MAX, scale_is_floored=False),
            compressor=Compressor.ZSTD,
        ),
        "pr122": pr122(),
        "pr163": pr163(),
        "pr333": pr333(),
        "pr340": pr340(),
        "record_162": record_162(),
        "record_414": record_414(),
        "record_1218": record_1218(),
        "record_1493": record_1493(),
        "record_1855": record_1855(),
    }
)

NAMES = tuple(_RECIPES)


def named_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        SpaceError: no recipe has it; lists those that exist.
    """
    if name not in _RECIPES:
        raise SpaceError(f"recipe: must be one of {', '.join(NAMES)}{close_match(name, _RECIPES)}, got {name!r}")
    return _RECIPES[name]
