"""Models that cannot be: each is refused with its field."""

import pytest

from trainer.errors import ConfigError
from trainer.model_config import GateConfig, GateForm, ModelConfig, SmearConfig, SmearForm


@pytest.mark.parametrize(
    "gate, smear",
    [
        (GateConfig(form=GateForm.NARROW), None),
        (GateConfig(form=GateForm.SPARSE), None),
        (None, SmearConfig(form=SmearForm.RESIDUAL)),
    ],
)
def test_gates_that_read_twelve_channels_need_them(gate: GateConfig | None, smear: SmearConfig | None) -> None:
    ModelConfig(model_dim=12, num_heads=2, num_kv_heads=1, gate=gate, smear=smear)
    with pytest.raises(ConfigError, match=r"model\.model_dim: must be at least 12 for its gates, got 8"):
        ModelConfig(model_dim=8, num_heads=2, num_kv_heads=1, gate=gate, smear=smear)


def test_gates_of_the_whole_input_need_no_width() -> None:
    ModelConfig(model_dim=4, num_heads=2, num_kv_heads=1, gate=GateConfig(form=GateForm.DENSE), smear=SmearConfig())
