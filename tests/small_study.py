"""A small study file that is right."""

from pathlib import Path

from search.spec import StudySpec, load_spec

GOOD = """\
name: tiny
set:
  model.num_layers: 3
space:
  include: [quantization]
  params:
    model.num_layers: {low: 2, high: 4}
    optim.matrix_lr: {low: 1e-3, high: 0.1, log: true}
    ema: {choices: [null, {}]}
queue:
  - set: {quant.matrix_bits: 6}
  - recipe: baseline_int6
limits:
  artifact_bytes: 400_000
data:
  path: data/quickstart
  tokenizer: data/quickstart/tokenizer.model
rungs:
  - name: proxy
    budget: {train_tokens: 1_000_000}
    trials: 10
  - name: full
    budget: {train_seconds: 600, world_size: 8}
    promote: 2
    seeds: [1, 2]
    accelerator: H100
"""


def load(tmp_path: Path, text: str) -> StudySpec:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return load_spec(path)
