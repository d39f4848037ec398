"""How much arithmetic a token of training takes."""

from search.shapes import shapes_of
from trainer.config import Recipe
from trainer.roles import Role, layer_of, role_of


def relative_speed(recipe: Recipe, base: Recipe) -> float:
    """How many tokens a recipe trains in the time in which another one trains one, on the same GPUs.

    By arithmetic alone: on an H100, ten named recipes came within a fifth of their average operations a second
    (docs/recipes.md).
    """
    return tokens_per_flop(recipe) / tokens_per_flop(base)


def tokens_per_flop(recipe: Recipe) -> float:
    """Tokens that a whole run trains for each operation; the model's loop goes on at a share of its time."""
    loop = recipe.model.loop
    if loop is None:
        return 1 / flops_per_token(recipe)
    plain = loop.start_fraction
    return plain / flops_per_token(recipe, is_looped=False) + (1 - plain) / flops_per_token(recipe)


def flops_per_token(recipe: Recipe, is_looped: bool = True) -> int:
    """Floating-point operations of forward and backward for one trained token.

    6 for each matrix weight each time the token passes it (2 forward, 4 backward; the tied embedding once, as the
    head; a looped layer once a pass), and 6 * train_seq_len * model_dim a pass of attention: queries by keys, then
    weights by values, over the half that is not masked. Elementwise work is left out.

    Args:
        is_looped: whether the model's loop is on.
    """
    model = recipe.model
    order = model.layer_order(is_looped)
    passes = [order.count(layer) for layer in range(model.num_layers)]
    weights = model.vocab_size * model.model_dim
    for tensor in shapes_of(recipe):
        if role_of(tensor.name) in {Role.MLP, Role.MATRIX, Role.GATE}:
            layer = layer_of(tensor.name)
            weights += tensor.numel * (1 if layer is None else passes[layer])
    return 6 * weights + 6 * recipe.schedule.train_seq_len * model.model_dim * len(order)
