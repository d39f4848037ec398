"""Muon: momentum whose update is replaced by its nearest orthogonal matrix.

Matrices of one shape are stacked and orthogonalised together: for the baseline's 54 matrices that takes 3 ms on an
H100 where one at a time takes 40. Shapes: N matrices, R rows, C columns.
"""

from typing import assert_never

import torch
from torch import Tensor, nn

from trainer.batched import add_all, scale_all
from trainer.train_config import MuonForm, NewtonSchulz, OptimConfig

Triple = tuple[float, float, float]
QUINTIC_TRIPLE = (3.4445, -4.7750, 2.0315)
POLAR_EXPRESS_TRIPLES = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
ROW_BETA = 0.95  # PR 122's memory of a row's second moment
SMALLEST_ROW = 1e-7  # PR 1285
SMALLEST_MOMENT = 1e-10  # PR 122


def triples_of(form: NewtonSchulz, steps: int) -> list[Triple]:
    """The coefficients of each iteration; beyond its five triples, Polar Express repeats the last.

    After five iterations a singular value of at least 0.002 of the norm lies in 0.68 to 1.21 (quintic) or 0.85 to 1.15
    (Polar Express), as measured. Further ones do not tend to 1: the last triple's fixed point is 1.035.

    Source: quintic by Keller Jordan, Muon (2024); Polar Express arXiv 2505.16932, as PR 1787 has it.
    """
    match form:
        case NewtonSchulz.QUINTIC:
            return [QUINTIC_TRIPLE] * steps
        case NewtonSchulz.POLAR_EXPRESS:
            last = len(POLAR_EXPRESS_TRIPLES) - 1
            return [POLAR_EXPRESS_TRIPLES[min(step, last)] for step in range(steps)]
        case _ as never:
            assert_never(never)


def orthogonalize(update_NRC: Tensor, triples: list[Triple], dtype: torch.dtype, is_batched: bool = False) -> Tensor:
    """Approximate polar factors by Newton-Schulz iteration X <- a X + (b G + c G^2) X, G = X X^T.

    Args:
        triples: a, b, c of each iteration.
        dtype: format of the products; bfloat16 is enough, as Muon's author found.
        is_batched: whether the products scale and add too: in plain form those are five more kernels an iteration.
    """
    x = update_NRC.to(dtype)
    is_tall = x.size(-2) > x.size(-1)
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for a, b, c in triples:
        gram = x @ x.mT
        if is_batched:
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        else:
            x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if is_tall else x


def with_unit_rows(update_NRC: Tensor) -> Tensor:
    """Rows divided by their L2 norm. Source: MuonEq-R, PR 1285."""
    return update_NRC / update_NRC.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_ROW)


def with_even_rows(update_NRC: Tensor, moment_NR1: Tensor) -> Tensor:
    """Rows divided by the root of their running mean square, each matrix at its former Frobenius norm.

    Args:
        moment_NR1: the running mean squares; takes in this update first.

    Source: NorMuon, arXiv 2510.05491, as PR 122 has it.
    """
    norm_N11 = update_NRC.norm(dim=(-2, -1), keepdim=True)
    moment_NR1.lerp_(update_NRC.square().mean(dim=-1, keepdim=True), 1.0 - ROW_BETA)
    even_NRC = update_NRC / (moment_NR1.sqrt() + SMALLEST_MOMENT)
    return even_NRC * (norm_N11 / (even_NRC.norm(dim=(-2, -1), keepdim=True) + SMALLEST_MOMENT))


class Muon:
    """Muon with Nesterov momentum and decoupled weight decay, over matrices grouped by shape.

    The update is scaled by sqrt(max(1, R / C)), so that a matrix's effect on its output does not depend on its shape.

    Args:
        dtype: format of the Newton-Schulz products.
        is_batched: whether they scale and add too.
    """

    def __init__(
        self, parameters: list[nn.Parameter], config: OptimConfig, dtype: torch.dtype, is_batched: bool = False
    ) -> None:
        shapes = sorted({tuple(parameter.shape) for parameter in parameters})
        self.groups = [[p for p in parameters if tuple(p.shape) == shape] for shape in shapes]
        self.momentum_buffers = [
            torch.zeros(len(group), *group[0].shape, device=group[0].device) for group in self.groups
        ]
        self.row_moments = [torch.zeros_like(buffer[..., :1]) for buffer in self.momentum_buffers]
        self.triples = triples_of(config.newton_schulz, config.muon_steps)
        self.form, self.weight_decay, self.dtype = config.muon, config.muon_weight_decay, dtype
        self.is_batched = is_batched

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        """Update every matrix from its gradient."""
        for group, buffer, row_moment in zip(self.groups, self.momentum_buffers, self.row_moments, strict=True):
            gradient = torch.stack([parameter.grad for parameter in group if parameter.grad is not None])
            update = self.update(gradient, buffer, row_moment, momentum)
            rows, columns = update.shape[-2:]
            if self.weight_decay:
                scale_all(group, 1.0 - lr * self.weight_decay)
            add_all(group, update.unbind(), -lr * max(1.0, rows / columns) ** 0.5)

    def update(self, gradient_NRC: Tensor, buffer_NRC: Tensor, moment_NR1: Tensor, momentum: float) -> Tensor:
        """What the weights move against, before scale and learning rate; takes the gradient into the buffers."""
        match self.form:
            case MuonForm.PLAIN:
                return self.orthogonal(nesterov_sum(gradient_NRC, buffer_NRC, momentum))
            case MuonForm.ROW_EQUALIZED:
                return self.orthogonal(with_unit_rows(nesterov_sum(gradient_NRC, buffer_NRC, momentum)))
            case MuonForm.NORMUON:
                buffer_NRC.lerp_(gradient_NRC, 1.0 - momentum)
                return with_even_rows(self.orthogonal(gradient_NRC.lerp(buffer_NRC, momentum)), moment_NR1)
            case _ as never:
                assert_never(never)

    def orthogonal(self, update_NRC: Tensor) -> Tensor:
        """Polar factors in float32."""
        return orthogonalize(update_NRC, self.triples, self.dtype, self.is_batched).float()


def nesterov_sum(gradient_NRC: Tensor, buffer_NRC: Tensor, momentum: float) -> Tensor:
    """The gradient with momentum, looking one step ahead; the buffer is a sum that forgets."""
    buffer_NRC.mul_(momentum).add_(gradient_NRC)
    return gradient_NRC.add(buffer_NRC, alpha=momentum)
