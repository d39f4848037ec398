"""The static review refuses every violating script of the corpus, for its one reason, and no innocent one."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from verify_corpus.build import Packing, Script
from verify_corpus.corpus import SCRIPTS

from search.verify.code import code_findings
from search.verify.finding import Severity

# Rules of the static review that refuse; a tokenizer of one's own is only a question.
RULES = (
    *("network", "process", "single-file", "opaque"),
    *("val-in-training", "val-in-quantization", "train-in-eval"),
    *("ttt-order", "slot", "ngram-target", "target-leak"),
    *("byte-count", "size-trick", "hardcoded-score"),
)


def test_the_corpus_is_large_and_mixed() -> None:
    violating = Counter(script.rule for script in SCRIPTS if script.rule)
    assert set(violating) == set(RULES)
    assert min(violating.values()) >= 2
    assert violating.total() >= 34
    assert sum(script.rule is None for script in SCRIPTS) >= 30
    for side in (True, False):
        assert {script.packing for script in SCRIPTS if (script.rule is None) is side} == {None, *Packing}
    assert len({script.name for script in SCRIPTS}) == len(SCRIPTS)
    assert len({script.source() for script in SCRIPTS}) == len(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_are_python(script: Script) -> None:
    ast.parse(script.source())
    ast.parse(script.shipped())
    assert script.why.endswith(".")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_review_refuses_for_the_one_reason(script: Script, tmp_path: Path) -> None:
    script.write(tmp_path)
    refused = [finding for finding in code_findings(tmp_path) if finding.severity is Severity.REFUSE]
    shown = "\n".join(str(finding) for finding in refused)
    assert {finding.rule for finding in refused} == ({script.rule} if script.rule else set()), f"{script.why}\n{shown}"
    assert all(finding.line is not None and finding.message for finding in refused)
