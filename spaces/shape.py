"""Ready params: the transformer's shape."""

from spaces.space import Choice, Integer, Param, Real
from trainer.config import Recipe


def params() -> tuple[Param, ...]:
    """Sizes and numbers of ModelConfig but vocab_size, from the naive baseline to the records."""
    return (
        Param("model.num_layers", Integer(4, 14)),
        Param("model.model_dim", Integer(256, 768, step=64)),  # multiples of 64: whole tiles, and even head widths
        Param("model.num_heads", Choice.of(4, 8, 16)),
        Param("model.num_kv_heads", Choice.of(1, 2, 4)),  # each divides every num_heads
        # A third of three matrices (SwiGLU) is two of two; 4.0 is what April's records have.
        Param("model.mlp_mult", Choice.of(1.0, 4 / 3, 1.5, 2.0, 2.5, 2.75, 3.0, 3.5, 4.0)),
        Param("model.rope_base", Real(1_000.0, 200_000.0, log=True)),
        Param("model.rope_dims", Choice.of(None, 8, 16, 32), when=_has_wide_heads),
        Param("model.rope_ntk_length", Choice.of(None, 512, 1024)),
        Param("model.qk_gain_init", Real(0.5, 6.0)),  # 1.5 at first, 5.0 to 5.25 in the last records
        Param("model.logit_softcap", Real(10.0, 60.0, log=True)),
        Param("model.embed_init_std", Real(0.001, 0.1, log=True)),
    )


def _has_wide_heads(recipe: Recipe) -> bool:
    return recipe.model.head_dim >= 32
