"""How far a training step's loss and gradients are from float32 ones, next to how far the plain form in bfloat16 is."""

import torch
from torch import Tensor

from trainer.fast import FastPaths
from trainer.loop import Trainer
from trainer.model import Gpt
from trainer.schedule import variant_at

Gradients = dict[str, Tensor]
References = dict[object, tuple[Gradients, Gradients]]
REFERENCE_TOKENS = 4_096  # of a pass of the references, whose attention holds whole matrices


def perturb(model: Gpt) -> None:
    """Move all weights a little: some start at zero, and would hide what lies before them."""
    generator = torch.Generator(model.tok_emb.device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, device=parameter.device, generator=generator)
            parameter.add_(noise, alpha=0.02)


def gradient_errors(trainer: Trainer, progress: float, known: References, key: object) -> str:
    """The errors against eager float32 of this trainer's model and, in brackets, of its plain form in eager bfloat16.

    Errors are over norms; of all weights together, and of the worst weight and its name.

    Args:
        known: references made before, by key: whatever they depend on.
    """
    ids_BT, targets_BT = (part[: trainer.micro_sequences] for part in trainer.loader.next_batch())
    is_looped = variant_at(progress, trainer.recipe).is_looped
    ours = gradients(trainer, ids_BT, targets_BT, is_looped, len(ids_BT))
    if key not in known:
        known[key] = references(trainer, ids_BT, targets_BT, is_looped)
    exact, coarse = known[key]
    return f"; against float32: {shown(ours, exact)} [plain {shown(coarse, exact)}]"


def references(trainer: Trainer, ids_BT: Tensor, targets_BT: Tensor, is_looped: bool) -> tuple[Gradients, Gradients]:
    """Gradients of the plain form in float32 and in the model's own format, eager, a few rows at a time."""
    model, fast, dtype = trainer.model, trainer.model.fast, trainer.model.compute_dtype
    rows, plain = max(1, REFERENCE_TOKENS // ids_BT.size(1)), list[Gradients]()
    with torch.compiler.set_stance("force_eager"):
        model.take(FastPaths())
        for reference in (torch.float32, dtype):
            model.compute_dtype = reference
            plain.append(gradients(trainer, ids_BT, targets_BT, is_looped, rows))
    model.compute_dtype = dtype
    model.take(fast)
    return plain[0], plain[1]


def gradients(trainer: Trainer, ids_BT: Tensor, targets_BT: Tensor, is_looped: bool, rows: int) -> Gradients:
    """The gradients by name, and the loss, of some rows at a time."""
    model, mask = trainer.model, trainer.recipe.schedule.document_mask
    total = torch.zeros((), device=ids_BT.device)
    for ids, targets in zip(ids_BT.split(rows), targets_BT.split(rows), strict=True):
        loss = model.loss(ids, targets, is_looped, mask) * (len(ids) / len(ids_BT))
        loss.backward()
        total += loss.detach()
    found = {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
    trainer.optimizer.zero_grad()
    return {"loss": total, **found}


def shown(got: Gradients, exact: Gradients) -> str:
    """Errors over norms: of the loss, of all gradients, of the worst one."""
    errors = {name: float((got[name] - value).norm() / (value.norm() + 1e-12)) for name, value in exact.items()}
    loss = errors.pop("loss")
    squares = [float((got[name] - exact[name]).square().sum()) for name in errors]
    total = sum(float(exact[name].square().sum()) for name in errors)
    worst = max(errors, key=lambda name: errors[name])
    return f"loss {loss:.1e}, gradient {(sum(squares) / total) ** 0.5:.1e}, {worst} {errors[worst]:.1e}"
