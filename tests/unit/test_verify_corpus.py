"""The static review refuses every violating script of the corpus, for its one reason, and no innocent one."""

import ast
import re
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from verify_corpus.build import Packing, Script
from verify_corpus.corpus import SCRIPTS
from verify_corpus.innocent_code import PLAIN

from search.data import TOKENIZER_NAME
from search.verify.code import code_findings
from search.verify.finding import Severity

# Rules of the static review that refuse; a tokenizer of one's own is only a question.
RULES = (
    *("network", "process", "single-file", "opaque"),
    *("val-in-training", "val-in-quantization", "train-in-eval"),
    *("ttt-order", "slot", "ngram-target", "target-leak"),
    *("byte-count", "size-trick", "hardcoded-score"),
)
INNOCENT = [script for script in SCRIPTS if script.rule is None]
# Settings of the bases for parts of a second on a CPU.
TINY = {
    "ITERATIONS": 2,
    "TRAIN_SEQ_LEN": 64,
    "BATCH_SEQS": 2,
    "MODEL_DIM": 32,
    "NUM_LAYERS": 1,
    "TTT_CHUNK": 512,
    "EVAL_STRIDE": 32,
    "VAL_LOSS_EVERY": 1,
}


def test_the_corpus_is_large_and_mixed() -> None:
    violating = Counter(script.rule for script in SCRIPTS if script.rule)
    assert set(violating) == set(RULES)
    assert min(violating.values()) >= 2
    assert violating.total() >= 34
    assert len(INNOCENT) >= 30
    for side in (True, False):
        assert {script.packing for script in SCRIPTS if (script.rule is None) is side} == {None, *Packing}
    assert len({script.name for script in SCRIPTS}) == len(SCRIPTS)
    assert len({script.source() for script in SCRIPTS}) == len(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_python(script: Script) -> None:
    ast.parse(script.source())
    ast.parse(script.shipped())
    assert script.why.endswith(".")


@pytest.mark.parametrize("script", PLAIN, ids=lambda script: script.name)
def test_bases_train_and_score(
    script: Script,
    short_documents: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_gpt.py"])
    for name, value in (
        *TINY.items(),
        ("DATA_PATH", short_documents),
        ("TOKENIZER_PATH", short_documents / TOKENIZER_NAME),
    ):
        monkeypatch.setenv(name, str(value))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work takes longer on several, above all on a busy machine
    try:
        runpy.run_path("train_gpt.py", run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    assert re.search(r"val_loss:\d+\.\d{8} val_bpb:\d+\.\d{8}\b.*\n\Z", capsys.readouterr().out)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_review_refuses_for_the_one_reason(script: Script, tmp_path: Path) -> None:
    script.write(tmp_path)
    refused = [finding for finding in code_findings(tmp_path) if finding.severity is Severity.REFUSE]
    shown = "\n".join(str(finding) for finding in refused)
    assert {finding.rule for finding in refused} == ({script.rule} if script.rule else set()), f"{script.why}\n{shown}"
    assert all(finding.line is not None and finding.message for finding in refused)
