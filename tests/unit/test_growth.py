"""What predicted bytes rest on: how weights grow, and the entropy of rounded Gaussian ones."""

import pytest

from search.coding import code_entropy, row_maximum, sigmas_of
from search.growth import table_std, weight_std
from trainer.store_config import ClipRule
from trainer.train_config import OptimConfig, ScheduleConfig


def test_weights_grow_with_what_momentum_remembers() -> None:
    schedule = ScheduleConfig()
    short, long = OptimConfig(muon_momentum=0.95), OptimConfig(muon_momentum=0.99)
    assert weight_std(512, 0.0, short, schedule, 1_000) < weight_std(512, 0.0, long, schedule, 1_000)
    assert weight_std(512, 0.025, short, schedule, 1) == pytest.approx(0.025, rel=0.3)


def test_decay_ends_growth() -> None:
    optim, schedule = OptimConfig(muon_weight_decay=0.1), ScheduleConfig(warmdown_fraction=0.0)
    early, late = (weight_std(512, 0.025, optim, schedule, steps) for steps in (3_000, 12_000))
    assert early == pytest.approx(late, rel=0.02)
    adam = OptimConfig(embed_weight_decay=0.1)
    early, late = (table_std(0.005, adam, schedule, steps) for steps in (3_000, 12_000))
    assert early == pytest.approx(late, rel=0.02)


def test_entropy_of_rounded_gaussian_codes() -> None:
    assert code_entropy(20.0, 127) == pytest.approx(6.369, abs=0.005)  # log2(4.133 * 20)
    assert code_entropy(1e-9, 127) == 0.0
    assert code_entropy(20.0, 127, 1.0) == 0.0
    assert code_entropy(2.0, 31, 0.5) < code_entropy(2.0, 31, 0.1) == code_entropy(2.0, 31)
    assert row_maximum(512) == pytest.approx(3.25, abs=0.05)


def test_a_searched_clip_lies_between_its_quantiles() -> None:
    assert sigmas_of(ClipRule.MSE, 0.0, 512, 8) == row_maximum(512)  # all of the row
    assert 2.9 < sigmas_of(ClipRule.MSE, 0.0, 4096, 4) < 3.4  # no less than the quantile tried
    assert sigmas_of(ClipRule.MSE, 0.0, 4096, 6) == 3.33
