"""A script's model is built without running its main part: ours, and others as people write them."""

import ast
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from synthetic_runs import hand_made

from search.bundle import bundle
from search.verify import build_model
from search.verify.files import read_submission
from search.verify.finding import Finding, Severity
from search.verify.isolate import IsolationError, Job, run_isolated
from search.verify.smoke import Smoke, smoke_findings
from search.verify.watch import Limits
from trainer.config import Budget, Recipe
from trainer.model import new_model
from trainer.model_config import ModelConfig

BASELINE = """
import os
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from absent_attention import absent_func as attention
import absent_kernels
import absent_kernels.language as tl

@absent_kernels.jit
def kernel(x, n: tl.constexpr):
    return x

class Hyperparameters:
    vocab_size = int(os.environ.get("VOCAB_SIZE", 64))
    num_layers = 3
    model_dim = 16
    tie_embeddings = bool(int(os.environ.get("TIE_EMBEDDINGS", "1")))

class CastedLinear(nn.Linear):
    pass

class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.up = CastedLinear(dim, 4 * dim, bias=False)
        self.down = CastedLinear(4 * dim, dim, bias=False)

class GPT(nn.Module):
    def __init__(self, vocab_size: int, num_layers: int, model_dim: int, tie_embeddings: bool, softcap: float = 30.0):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, model_dim)
        self.blocks = nn.ModuleList([Block(model_dim) for _ in range(num_layers)])
        self.lm_head = None if tie_embeddings else CastedLinear(model_dim, vocab_size, bias=False)
        nn.init.orthogonal_(self.blocks[0].up.weight)

step = torch.compile(lambda x: x)

def main():
    args = Hyperparameters()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    base_model = GPT(
        vocab_size=args.vocab_size,
        num_layers=args.num_layers,
        model_dim=args.model_dim,
        tie_embeddings=args.tie_embeddings,
        softcap=unknown_here,
    ).to(device).bfloat16()

if __name__ == "__main__":
    main()
"""
BASELINE_PARAMETERS = 64 * 16 + 3 * 8 * 16 * 16


def built(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The parameters of a script's model, built in this process."""
    absent = {"absent_attention", "absent_kernels"}
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, build_model.Absent(absent)])
    monkeypatch.setitem(sys.modules, build_model.MODULE, ModuleType(build_model.MODULE))
    namespace = build_model.define(text)
    for name in [name for name in sys.modules if name.split(".")[0] in absent]:
        monkeypatch.delitem(sys.modules, name)
    return build_model.count(build_model.build(ast.parse(text), namespace)[1])


def changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


CONSTRUCTOR = BASELINE[BASELINE.index("    def __init__(self, vocab_size") : BASELINE.index("        self.tok_emb")]
CALL = BASELINE[BASELINE.index("    base_model = GPT(") : BASELINE.index("if __name__")]
BY_SETTINGS = """    def __init__(self, h):
        super().__init__()
        vocab_size, num_layers, model_dim, tie_embeddings = h.vocab_size, h.num_layers, h.model_dim, h.tie_embeddings
"""


@pytest.mark.parametrize(
    "text",
    [
        BASELINE,
        changed(BASELINE, (CONSTRUCTOR, BY_SETTINGS), (CALL, "    model = GPT(args).to(device)\n\n")),
        changed(
            BASELINE,
            (CONSTRUCTOR, BY_SETTINGS),
            ("def main():\n    args = Hyperparameters()\n", "def train_model(h, device, val_data):\n"),
            (CALL, "    model = GPT(h).to(device)\n    return model\n\n"),
            ("    main()\n", "    train_model(Hyperparameters(), None, None)\n"),
        ),
        changed(BASELINE, (CALL, "    depth = args.num_layers\n    m = GPT(args.vocab_size, depth, 16, True)\n\n")),
        changed(BASELINE, ("class GPT(", "class Net("), ("GPT(\n", "Net(\n")),
    ],
    ids=["baseline", "settings", "settings_argument", "positions", "named_otherwise"],
)
def test_the_model_of_a_script_is_built_as_the_script_builds_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert built(text, monkeypatch) == BASELINE_PARAMETERS


def test_variables_of_the_environment_are_the_scripts_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIE_EMBEDDINGS", "0")
    assert built(BASELINE, monkeypatch) == BASELINE_PARAMETERS + 64 * 16


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import math\n", "imports torch"),
        ("import torch\nweights = {}\n", "no call of a function or class that makes a model"),
        (changed(BASELINE, ("num_layers=args.num_layers,", "")), "num_layers"),
    ],
)
def test_why_a_model_cannot_be_built(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=reason):
        built(text, monkeypatch)


def test_libraries_that_a_script_tries_to_import_get_no_stand_in() -> None:
    text = (
        "import a.b\nfrom c import d\ndef f():\n    import e\ntry:\n    import g\nexcept ImportError:\n    g = None\n"
    )
    assert list(build_model.imported(ast.parse(text).body)) == ["a", "c", "e"]


# ---- isolated, as `caddie verify --smoke` does


@pytest.fixture
def can_isolate(tmp_path: Path) -> None:
    """Skip where this host cannot."""
    (tmp_path / "probe").mkdir()
    command, limits = [sys.executable, "-c", "pass"], Limits(seconds=60.0)
    try:
        run_isolated(
            Job(command=command, folder=tmp_path / "probe", output=tmp_path / "o", limits=limits, environment={})
        )
    except IsolationError as error:
        pytest.skip(str(error))


def smoke(folder: Path, code: bytes, num_parameters: int, settings: dict[str, str] | None = None) -> list[Finding]:
    """What is said of a folder with this code."""
    submission = read_submission(hand_made(folder / "out", code, num_parameters=num_parameters), [])
    assert submission is not None
    return list(smoke_findings(submission, Smoke(os.environ, settings or {})))


@pytest.mark.usefixtures("can_isolate")
def test_our_file_builds_the_model_of_its_recipe(tmp_path: Path) -> None:
    recipe = Recipe(model=ModelConfig(num_layers=2, model_dim=32, num_heads=2, num_kv_heads=1))
    expected = new_model(recipe.model, torch.float32, 0).num_parameters
    refusal, note = smoke(tmp_path, bundle(recipe, Budget(train_tokens=8192)).packed, expected + 1)
    assert (refusal.severity, refusal.file) == (Severity.REFUSE, "train_seed7.log")
    assert f"expected {expected}, as built, got {expected + 1}" in refusal.message
    assert note.severity is Severity.NOTE
    assert f"{expected} parameters" in note.message


@pytest.mark.usefixtures("can_isolate")
def test_a_script_of_others_is_built_with_the_variables_of_its_command(tmp_path: Path) -> None:
    findings = smoke(tmp_path, BASELINE.encode(), BASELINE_PARAMETERS + 64 * 16, {"TIE_EMBEDDINGS": "0"})
    assert [finding.severity for finding in findings] == [Severity.NOTE]
    assert "stand-ins for absent_attention, absent_kernels" in findings[0].message


@pytest.mark.usefixtures("can_isolate")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "got none: exit code 137"),
        (b"raise SystemExit(0)\n", "got none: SystemExit: 0"),
        (b"open('/root/.ssh/id_rsa')\n", "got none: "),
        (b"import os, sys\nos.mkfifo('found.json')\nos._exit(0)\n", "got none: exit code 0"),
        (b"import os\nopen('found.json', 'w').write('[1]')\nos._exit(0)\n", "cannot be read"),
    ],
)
def test_what_cannot_be_built_is_for_a_reviewer(tmp_path: Path, code: bytes, message: str) -> None:
    [finding] = smoke(tmp_path, code, 5)
    assert finding.severity is Severity.REVIEW
    assert message in finding.message
