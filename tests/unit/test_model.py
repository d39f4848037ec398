"""The model against its published size and against properties that any correct transformer of this kind has."""

import torch
from torch import Tensor

from trainer.rotary import rotate, rotation_of
from trainer.model import Gpt, new_model
from trainer.model_config import ModelConfig

TINY = ModelConfig(vocab_size=64, num_layers=5, model_dim=32, num_heads=4, num_kv_heads=2)


def test_naive_baseline_has_the_published_number_of_parameters() -> None:
    assert new_model(ModelConfig(), torch.float32, 0).num_parameters == 17_059_912


def test_the_seed_alone_decides_the_initial_weights() -> None:
    first, same, other = (dict(new_model(TINY, torch.float32, seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["tok_emb"], other["tok_emb"])


def test_losses_do_not_depend_on_later_tokens() -> None:
    model = randomized(TINY)
    ids, targets = torch.randint(64, (2, 3, 16), generator=torch.Generator().manual_seed(0))
    before = model.token_losses(ids, targets, 16, False)
    changed = ids.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % 64
    after = model.token_losses(changed, targets, 16, False)
    torch.testing.assert_close(after[:, :9], before[:, :9])
    assert not torch.allclose(after[:, 9:], before[:, 9:])


def test_scoring_the_last_positions_equals_scoring_all() -> None:
    model = randomized(TINY)
    ids, targets = torch.randint(64, (2, 3, 16), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        model.token_losses(ids, targets, 5, False), model.token_losses(ids, targets, 16, False)[:, -5:]
    )
    torch.testing.assert_close(
        model.loss(ids, targets, False, False), model.token_losses(ids, targets, 16, False).mean()
    )


def test_the_whole_model_is_one_graph_for_the_compiler() -> None:
    model = randomized(TINY)
    ids = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    loss = torch.compile(model.loss, fullgraph=True, dynamic=False, backend="eager")
    token_losses = torch.compile(model.token_losses, fullgraph=True, dynamic=False, backend="eager")
    torch.testing.assert_close(loss(ids, ids, False, False), model.loss(ids, ids, False, False))
    torch.testing.assert_close(token_losses(ids, ids, 4, False), model.token_losses(ids, ids, 4, False))


def test_fresh_model_predicts_almost_uniformly() -> None:
    ids = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    loss = new_model(TINY, torch.float32, 0).loss(ids, ids.roll(-1), False, False)
    torch.testing.assert_close(loss, torch.tensor(64.0).log(), atol=0.05, rtol=0)


def test_logits_stay_within_the_softcap() -> None:
    model = randomized(TINY)
    with torch.no_grad():
        logits = model.logits(1000 * torch.randn(4, 32))
    assert logits.abs().max() <= TINY.logit_softcap


def test_forward_equals_a_reference_written_from_the_definition() -> None:
    model = randomized(TINY)
    ids = torch.randint(64, (1, 7), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(ids, False, False)[0], reference_forward(model, ids[0]), atol=1e-5, rtol=1e-4)


def test_rotary_keeps_lengths_and_depends_on_distance_only() -> None:
    config = ModelConfig(model_dim=8, num_heads=1, num_kv_heads=1, rope_base=100.0)
    rotation = rotation_of(32, config, torch.device("cpu"), torch.float32)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    queries, keys = rotate(q.expand(1, 32, 1, 8), rotation)[0, :, 0], rotate(k.expand(1, 32, 1, 8), rotation)[0, :, 0]
    torch.testing.assert_close(queries.norm(dim=1), q.norm().expand(32))
    torch.testing.assert_close(queries[9] @ keys[4], queries[25] @ keys[20], atol=1e-5, rtol=1e-4)


def randomized(config: ModelConfig) -> Gpt:
    """A model whose zero and one parameters are random too, so that every path shows."""
    model = new_model(config, torch.float32, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def reference_forward(model: Gpt, ids: Tensor) -> Tensor:
    """One token, one head at a time, for a single row."""
    config, weights = model.config, dict(model.named_parameters())

    def norm(x: Tensor) -> Tensor:
        return x / (x.square().mean() + torch.finfo(torch.float32).eps).sqrt()

    def rotate(x: Tensor, position: int) -> Tensor:
        half = config.head_dim // 2
        out = x.clone()
        for pair in range(half):
            angle = torch.tensor(position * config.rope_base ** (-2 * pair / config.head_dim))
            out[pair] = x[pair] * angle.cos() + x[pair + half] * angle.sin()
            out[pair + half] = x[pair + half] * angle.cos() - x[pair] * angle.sin()
        return out

    def attention(prefix: str, stream: list[Tensor]) -> list[Tensor]:
        size, group = config.head_dim, config.num_heads // config.num_kv_heads
        outputs: list[Tensor] = []
        for position in range(len(stream)):
            heads: list[Tensor] = []
            for head in range(config.num_heads):
                rows = slice(head * size, (head + 1) * size)
                kv_rows = slice(head // group * size, (head // group + 1) * size)
                query = rotate(norm((weights[f"{prefix}.c_q.weight"] @ stream[position])[rows]), position)
                query = query * weights[f"{prefix}.q_gain"][head]
                keys = [
                    rotate(norm((weights[f"{prefix}.c_k.weight"] @ stream[past])[kv_rows]), past)
                    for past in range(position + 1)
                ]
                scores = torch.stack([query @ key for key in keys]) / size**0.5
                values = [(weights[f"{prefix}.c_v.weight"] @ stream[past])[kv_rows] for past in range(position + 1)]
                heads.append(scores.softmax(0) @ torch.stack(values))
            outputs.append(weights[f"{prefix}.proj.weight"] @ torch.cat(heads))
        return outputs

    start = [norm(weights["tok_emb"][token]) for token in ids]
    stream, skips, half = start, list[list[Tensor]](), config.num_layers // 2
    for index in range(config.num_layers):
        prefix = f"blocks.{index}"
        if index >= half and skips:
            skip = skips.pop()
            stream = [x + weights["skip_weights"][index - half] * y for x, y in zip(stream, skip, strict=True)]
        mix = weights[f"{prefix}.resid_mix"]
        stream = [mix[0] * x + mix[1] * x0 for x, x0 in zip(stream, start, strict=True)]
        attended = attention(f"{prefix}.attn", [norm(x) for x in stream])
        stream = [x + weights[f"{prefix}.attn_scale"] * y for x, y in zip(stream, attended, strict=True)]
        fed = [
            weights[f"{prefix}.mlp.proj.weight"] @ (weights[f"{prefix}.mlp.fc.weight"] @ norm(x)).clamp_min(0).square()
            for x in stream
        ]
        stream = [x + weights[f"{prefix}.mlp_scale"] * y for x, y in zip(stream, fed, strict=True)]
        if index < half:
            skips.append(stream)
    return torch.stack([norm(x) for x in stream])
