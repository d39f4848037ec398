"""Record claims: the statistics against hand values, every rule refused by its name, and cautions near the cap."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import make_claim, make_run, packed_code

from search.errors import SubmissionError
from search.export.cautions import cautions
from search.export.claim import Claim, LeftOut, Reference, SeedRun
from search.export.folder import export
from search.export.record import record_facts
from search.export.significance import significance, t_test
from search.export.track import Track
from search.spec_parts import Limits
from trainer.config import Budget

SEEDS = (1, 2, 3)


def claim_of_losses(
    folder: Path, losses: tuple[float, ...], reference: Reference | None, ratio: float = 5 / 3
) -> Claim:
    """A record claim of seeds 1, 2, 3 ... with these losses."""
    runs = [
        make_run(folder / f"run{seed}", seed, None, val_loss=loss, val_bpb=loss / ratio)
        for seed, loss in enumerate(losses, start=1)
    ]
    claim = make_claim(folder, *runs, seeds=tuple(range(1, len(losses) + 1)))
    return replace(claim, entry=replace(claim.entry, track=Track.RECORD, reference=reference))


# ---- statistics


def test_t_and_p_are_those_of_hand() -> None:
    # Mean 1.8995, sample deviation 0.0005 exactly: t = (1.8995 - 1.9) / (0.0005 / sqrt 3) = -sqrt 3. With two degrees
    # of freedom Student's distribution is 1/2 + t / (2 sqrt(2 + t^2)): p = 1/2 - sqrt 3 / (2 sqrt 5).
    t, p = t_test([1.8990, 1.8995, 1.9000], 1.9)
    assert t == pytest.approx(-math.sqrt(3), rel=1e-9)
    assert p == pytest.approx(0.5 - math.sqrt(3) / (2 * math.sqrt(5)), rel=1e-9)


@given(
    st.lists(st.floats(-0.01, 0.01), min_size=3, max_size=3).filter(lambda values: max(values) - min(values) > 1e-5),
    st.floats(1.98, 2.02),
)
def test_p_of_three_seeds_is_the_closed_form(offsets: list[float], threshold: float) -> None:
    losses = [2.0 + offset for offset in offsets]
    t, p = t_test(losses, threshold)
    assert p == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), rel=1e-6, abs=1e-12)


def test_a_mean_above_the_reference_is_no_improvement() -> None:
    _, p = t_test([2.1, 2.1001, 2.0999], 2.0)
    assert p > 0.99


def test_the_margin_counts(tmp_path: Path) -> None:
    losses = (2.0, 2.0001, 1.9999)
    test = significance(claim_of_losses(tmp_path, losses, Reference(loss=2.005)))
    assert test is not None
    assert (test.threshold, test.num_seeds) == (pytest.approx(2.0), 3)
    assert test.p == pytest.approx(0.5)  # exactly the margin is not more than it
    assert not test.is_significant
    better = significance(claim_of_losses(tmp_path / "b", losses, Reference(loss=2.007)))
    assert better is not None and better.is_significant


def test_bits_per_byte_are_converted_by_the_runs_own_ratio(tmp_path: Path) -> None:
    test = significance(claim_of_losses(tmp_path, (2.0, 2.001, 1.999), Reference(bpb=1.3), ratio=1.6))
    assert test is not None
    assert test.reference_loss == pytest.approx(1.3 * 1.6)
    assert test.reference_bpb == 1.3


def test_runs_that_scored_other_tokens_have_no_common_ratio(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"run{n}", n, None, val_loss=2.0 + n / 100, val_bpb=1.2) for n in SEEDS]
    claim = make_claim(tmp_path, *runs)
    claim = replace(claim, entry=replace(claim.entry, reference=Reference(bpb=1.3)))
    with pytest.raises(SubmissionError, match="expected one ratio of val_loss to val_bpb in all runs"):
        significance(claim)


@pytest.mark.parametrize(
    ("losses", "match"),
    [([2.0], "expected at least two seeds"), ([2.0, 2.0, 2.0], "expected losses that differ by seed, got 3 times 2.0")],
)
def test_what_cannot_be_tested_is_refused(losses: list[float], match: str) -> None:
    with pytest.raises(SubmissionError, match=match):
        t_test(losses, 1.9)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({}, "got 0 of them"),
        ({"loss": 2.0, "bpb": 1.2}, "got 2 of them"),
        ({"loss": math.nan}, "expected a positive number, got nan"),
        ({"bpb": -1.0}, "expected a positive number, got -1.0"),
    ],
)
def test_a_reference_is_one_positive_number(values: dict[str, float], match: str) -> None:
    with pytest.raises(SubmissionError, match=match):
        Reference(**values)


# ---- rules


def broken_rules(claim: Claim) -> list[str]:
    return [fact.rule for fact in record_facts(claim) if not fact.is_kept]


def test_a_record_keeps_every_rule(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    assert broken_rules(claim) == []
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    assert "## Record claim" in text and "Rules of the record track, all kept" in text
    assert "Not a record run" not in text


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"device": "NVIDIA H100 PCIe"}, "hardware: expected every run on 8 x H100 SXM, got .*8 x NVIDIA H100 PCIe"),
        ({"device": "NVIDIA H200"}, "hardware"),
        ({"world_size": 4}, "hardware"),
        ({"train_seconds": 600.1}, "train-seconds: expected at most 600 s in every run, got 600.1 s at most"),
        ({"eval_seconds": 600.1}, "eval-seconds"),
    ],
)
def test_one_run_against_a_rule_refuses_the_record(tmp_path: Path, changes: dict[str, object], rule: str) -> None:
    claim = make_claim(tmp_path)
    worse = make_run(tmp_path / "worse", 7, None, **changes)
    claim = replace(claim, runs=[*claim.runs[:2], worse])
    assert broken_rules(claim) == [rule.partition(":")[0]]
    with pytest.raises(SubmissionError, match=rf"track record: 1 rule\(s\) fail: {rule}"):
        export(claim, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_feasible_subset_of_the_seeds_is_no_record(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    left_out = LeftOut(seed=5, reason="infeasible artifact_bytes: must be at most 16,000,000, got 16,000,001")
    origin = replace(claim.origin, seeds=(1337, 42, 7, 5), unfeasible={5: left_out})
    with pytest.raises(SubmissionError, match=r"all-seeds: .* got seed 5 left out: infeasible artifact_bytes"):
        export(replace(claim, origin=origin), tmp_path / "out")
    assert broken_rules(replace(claim, origin=replace(claim.origin, seeds=(1337, 42, 7, 5)))) == ["all-seeds"]


def test_seeds_chosen_after_the_runs_are_no_record(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    assert broken_rules(replace(claim, origin=replace(claim.origin, seeds=(1337,)))) == ["seeds", "all-seeds"]
    assert broken_rules(replace(claim, origin=replace(claim.origin, seeds=()))) == ["seeds", "all-seeds"]


def test_two_seeds_are_no_record(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    two = replace(claim, runs=claim.runs[:2], origin=replace(claim.origin, seeds=(1337, 42)))
    assert broken_rules(two) == ["seeds"]


def test_part_of_the_validation_split_is_no_record(tmp_path: Path) -> None:
    budget = Budget(train_seconds=600.0, world_size=8, eval_tokens=1_000_000)
    claim = make_claim(tmp_path, budget=budget)
    assert broken_rules(claim) == ["validation"]


def test_another_validation_split_is_no_record_though_its_folder_is_valid(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    runs = [of_other_tokens(run) for run in claim.runs]
    with pytest.raises(SubmissionError, match=r"expected a folder that verifies, got review: .*\[validation-split\]"):
        export(replace(claim, runs=runs), tmp_path / "out")
    entry = replace(claim.entry, track=Track.NON_RECORD)
    export(replace(claim, runs=runs, entry=entry), tmp_path / "out")


def of_other_tokens(run: SeedRun) -> SeedRun:
    """The run, had its validation split been a small one."""
    log = (run.folder / "train.log").read_bytes().replace(b"tokens:62021845", b"tokens:1000000")
    (run.folder / "train.log").write_bytes(log)
    return replace(run, log_sha256=hashlib.sha256(log).hexdigest())


def test_logs_without_hashes_are_no_record(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    runs = [replace(claim.runs[0], log_sha256=""), *claim.runs[1:]]
    assert broken_rules(replace(claim, runs=runs)) == ["logs"]


def test_a_record_needs_a_reference_and_beats_it(tmp_path: Path) -> None:
    claim = make_claim(tmp_path)
    assert broken_rules(replace(claim, entry=replace(claim.entry, reference=None))) == ["reference"]
    near = replace(claim, entry=replace(claim.entry, reference=Reference(loss=2.006)))
    assert broken_rules(near) == ["significance"]
    with pytest.raises(SubmissionError, match=r"significance: .* got -0.00534 nats, p = 0\.\d+"):
        export(near, tmp_path / "out")


def test_every_rule_that_fails_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run1", 1, None, device="cpu", world_size=1)
    claim = make_claim(tmp_path, run, budget=Budget(train_tokens=1))
    claim = replace(claim, entry=replace(claim.entry, track=Track.RECORD))
    with pytest.raises(SubmissionError, match=r"4 rule\(s\) fail: seeds: .*; all-seeds: .*; hardware: .*; reference: "):
        export(claim, tmp_path / "out")


# ---- the cap


def sized_claim(folder: Path, *totals: int, **changes: object) -> Claim:
    """A claim of seeds 1, 2, ... whose artifacts take so many bytes."""
    runs = [
        make_run(folder / f"run{seed}", seed, None, weight_bytes=total - len(packed_code()), artifact_bytes=total)
        for seed, total in enumerate(totals, start=1)
    ]
    return make_claim(folder, *runs, **changes)


def test_an_artifact_within_10_kb_of_the_cap_is_warned_of_with_the_spread(tmp_path: Path) -> None:
    claim = sized_claim(tmp_path, 15_980_000, 15_990_000, 15_985_000)
    (warning,) = cautions(claim)
    assert "seed 2 takes 15,990,000 bytes, 10,000 below the cap of 16,000,000" in warning
    assert "3 seeds spread over 10,000 (standard deviation 5,000), which is not less than the room left" in warning
    text = (export(claim, tmp_path / "out") / "README.md").read_text()
    assert f"> **Warning.** {warning}" in text


def test_one_byte_more_room_needs_no_warning(tmp_path: Path) -> None:
    assert cautions(sized_claim(tmp_path, 15_989_999)) == []


def test_the_spread_of_one_seed_is_not_known(tmp_path: Path) -> None:
    assert "how far the bytes of seeds spread is not known" in cautions(sized_claim(tmp_path, 16_000_000))[0]


def test_infeasible_seeds_are_part_of_the_spread(tmp_path: Path) -> None:
    over = LeftOut(seed=2, reason="infeasible artifact_bytes", artifact_bytes=16_000_001)
    claim = sized_claim(tmp_path, 15_999_001, seeds=(1, 2), unfeasible={2: over})
    near, left_out = cautions(claim)
    assert "The bytes of 2 seeds spread over 1,000" in near
    assert "seed 2: infeasible artifact_bytes" in left_out


def test_a_study_s_smaller_cap_is_the_one_that_is_near(tmp_path: Path) -> None:
    claim = sized_claim(tmp_path, 240_000, limits=Limits(artifact_bytes=250_000))
    assert "10,000 below the cap of 250,000" in cautions(claim)[0]
