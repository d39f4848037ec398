"""How far a training step's loss and gradients are from float32 ones, next to how far the plain form in bfloat16 is."""

from typing import Any

import torch
from torch import Tensor

from trainer.loop import Trainer
from trainer.model import Gpt, new_model
from trainer.schedule import Variant, variant_at

Gradients = dict[str, Tensor]
REFERENCE_TOKENS = 4_096  # of a pass of the references, whose attention holds whole matrices


def gradient_errors(trainer: Trainer, progress: float) -> dict[str, Any]:
    """Errors over norms of one micro-batch, as training passes it and, under plain, of the eager form in its format.

    The reference is the eager form in float32. The weights are others afterwards.
    """
    perturb(trainer.model)
    ids_BT, targets_BT = (part[: trainer.micro_sequences] for part in trainer.loader.next_batch())
    variant = variant_at(progress, trainer.recipe)
    # A first pass of its kind runs kernel by kernel, the second as a graph where passes are captured.
    trainer.accumulate(ids_BT, targets_BT, variant)
    trainer.optimizer.zero_grad()
    loss = trainer.accumulate(ids_BT, targets_BT, variant)
    assert loss is not None, "a micro-batch does not fit the device's memory"
    ours = gradients(trainer.model, loss)
    trainer.optimizer.zero_grad()
    exact, plain = (
        reference(trainer, ids_BT, targets_BT, variant, dtype)
        for dtype in (torch.float32, trainer.environment.compute_dtype)
    )
    return {"progress": progress, **errors(ours, exact), "plain": errors(plain, exact)}


def perturb(model: Gpt) -> None:
    """Move all weights a little: some start at zero, and would hide what lies before them."""
    generator = torch.Generator(model.tok_emb.device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, device=parameter.device, generator=generator)
            parameter.add_(noise, alpha=0.02)


def reference(trainer: Trainer, ids_BT: Tensor, targets_BT: Tensor, variant: Variant, dtype: torch.dtype) -> Gradients:
    """Loss and gradients of a model of the same weights, eager and without fast paths, a few rows at a time."""
    model = new_model(trainer.recipe.model, dtype, 0).to(ids_BT.device).train()
    model.load_state_dict(trainer.model.state_dict())
    rows, total = max(1, REFERENCE_TOKENS // ids_BT.size(1)), torch.zeros((), device=ids_BT.device)
    for ids, targets in zip(ids_BT.split(rows), targets_BT.split(rows), strict=True):
        loss = model.loss(ids, targets, variant.is_looped, trainer.recipe.schedule.document_mask)
        loss = loss * (len(ids) / len(ids_BT))
        loss.backward()
        total += loss.detach()
    return gradients(model, total)


def gradients(model: Gpt, loss: Tensor) -> Gradients:
    """The gradients by name, and the loss."""
    found = {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach().clone(), **found}


def errors(got: Gradients, exact: Gradients) -> dict[str, Any]:
    """Errors over norms: of the loss, of all gradients together, of the worst one and its name."""
    each = {name: float((got[name] - value).norm() / (value.norm() + 1e-12)) for name, value in exact.items()}
    loss = each.pop("loss")
    squares = sum(float((got[name] - exact[name]).square().sum()) for name in each)
    total = sum(float(exact[name].square().sum()) for name in each)
    worst = max(each, key=lambda name: each[name])
    return {"loss": loss, "gradient": (squares / total) ** 0.5, "worst": each[worst], "worst_name": worst}
