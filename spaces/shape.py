"""Ready params for a first study: the transformer's shape. Ranges hold every named recipe and centre on the records."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe
from trainer.model_config import MlpKind

TILE = 64  # units: whole tensor-core tiles, and a width that the fused MLP takes (multiples of 8)


def params() -> tuple[Param, ...]:
    """Sizes of the model but the vocabulary."""
    return (
        Param("model.num_layers", Integer(6, 14)),  # 9 at first, 11 in every record from PR 287 on
        Param("model.model_dim", Integer(256, 768, step=TILE)),  # 512 in every record; 576 in PR 163
        Param("model.num_heads", Choice.of(4, 8, 16)),  # 8 in all
        Param("model.num_kv_heads", Choice.of(1, 2, 4)),  # 4 in all; each divides every num_heads
        Param("model.mlp", Choice.of(*MlpKind)),  # leaky_relu2 is worth .002 to .003 over relu2 (PR 493, PR 549)
        # 2 at first, 3 in March (PR 162), 4 in April (PR 1218); a third of three matrices (SwiGLU) is two of two.
        Param("model.mlp_mult", Real(1.0, 5.0), snap=_to_whole_tiles),
    )


def _to_whole_tiles(recipe: Recipe, mlp_mult: float) -> float:
    """The multiple of the next smaller hidden width of whole tiles; what makes a whole width already stays.

    So PR 340's 682 units are a point, while what is drawn at random makes no width that is slower than its neighbours.
    """
    width, dim = mlp_mult * recipe.model.model_dim, recipe.model.model_dim
    is_whole = abs(width - round(width)) < 1e-6
    return mlp_mult if is_whole or width < TILE else width // TILE * TILE / dim
