"""Ready params for a first study: learning rates, weight decay, momentum and warmdown. training has the rest of it."""

from spaces.space import Choice, Param, Real
from trainer.train_config import MuonForm


def params() -> tuple[Param, ...]:
    """What every record tuned."""
    return (
        Param(
            "optim.matrix_lr", Real(0.01, 0.06, log=True)
        ),  # .02 the best of a sweep (03-18); .04 at first, .026 last
        Param("optim.embed_lr", Real(0.01, 0.12, log=True)),  # .03 to .05; .1 in PR 60
        Param("optim.scalar_lr", Real(0.008, 0.08, log=True)),  # .02 to .04
        Param("optim.muon", Choice.of(*MuonForm)),  # row_equalized -.001 (PR 1285)
        Param("optim.muon_momentum", Real(0.92, 0.995)),  # .95 at first, .99 in March; .97 -.0004 with loops (PR 1514)
        Param("optim.muon_weight_decay", Real(0.0, 0.12)),  # 0 at first, .04 in March, .095 in April (PR 1285)
        Param("optim.embed_weight_decay", Real(0.0, 0.12)),  # 0, .04, .085 (PR 1218)
        Param("optim.grad_clip_norm", Choice.of(None, 0.3, 1.0)),  # .3 from PR 162 on
        Param("schedule.warmdown_fraction", Real(0.05, 0.95)),  # .09 at first, .4 in March, .72 to .85 in April
        Param("schedule.lr_floor", Real(0.0, 0.2)),  # .1 in PR 1787, 0 before
    )
