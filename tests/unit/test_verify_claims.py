"""Whole folders in the forms that the challenge had: true ones pass, others are found."""

from pathlib import Path
from typing import Any

import pytest
from challenge_folders import (
    CODE_BYTES,
    Numbers,
    check,
    early_log,
    fields,
    late_log,
    of,
    refused,
    result,
    write,
)

from search.verify.finding import Finding, Severity

SEEDS = [
    Numbers(seed=1337, val_bpb="1.13261234", val_loss="1.91234567", weights=15_800_000),
    Numbers(seed=42, val_bpb="1.13301111", val_loss="1.91301111", weights=15_812_345, steps=7010),
    Numbers(seed=7, val_bpb="1.13222222", val_loss="1.91172222", weights=15_790_001, steps=6990),
]
ONE = SEEDS[0]


def early_logs(runs: list[Numbers]) -> dict[str, str]:
    return {f"train_seed{run.seed}.log": early_log(run) for run in runs}


def serious(findings: list[Finding]) -> list[str]:
    """All but what every record has: a step beyond the limit of time is noted."""
    return [str(finding) for finding in findings if finding.rule != "time-limit" or finding.severity != Severity.NOTE]


# ---- whole folders


@pytest.mark.parametrize("make", [early_log, late_log])
@pytest.mark.parametrize(
    "name",
    [
        *("train_seed{}.log", "train_seed_{}.log", "seed{}.log", "train_s{}.log", "log_seed{}.txt", "log{}.txt"),
        *("logs/run_seed{}.txt", "ternary_log_{}.txt", "train_log_seed{}.txt"),
    ],
)
def test_names_of_logs(tmp_path: Path, name: str, make: Any) -> None:
    folder = write(tmp_path, fields(SEEDS), {name.format(run.seed): make(run) for run in SEEDS})
    assert serious(check(folder)) == []


@pytest.mark.parametrize("name", ["train.log", "train_log.txt", "logs.txt", "output.log"])
def test_a_single_log_has_any_name(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, fields([ONE], seeds=None, seed_results=None), {name: late_log(ONE)})
    assert serious(check(folder)) == [
        "review: submission.json: expected three seeds for a record, got 1 [seeds]",
    ]


def test_other_texts_are_no_logs(tmp_path: Path) -> None:
    logs = early_logs(SEEDS) | {
        "requirements.txt": "torch\n",
        "notes.txt": "seed: 9\nval_bpb 1.1\n",
        "run.log": "gone\n",
    }
    assert serious(check(write(tmp_path, fields(SEEDS), logs))) == []


def test_folder_without_logs(tmp_path: Path) -> None:
    assert refused(write(tmp_path, fields(SEEDS), {"notes.txt": "nothing\n"})) == ["files"]


def test_another_log_of_a_seed_is_noted(tmp_path: Path) -> None:
    old = Numbers(seed=42, val_bpb="1.14000000", val_loss="1.92000000", weights=15_900_000, code=CODE_BYTES + 5)
    names = {f"log_seed{run.seed}_v2.txt": early_log(run) for run in SEEDS} | {"log_seed42_v1.txt": early_log(old)}
    findings = check(write(tmp_path, fields(SEEDS), names))
    assert serious(findings) == [
        "note: log_seed42_v1.txt: expected one log a seed, got another of seed 42; "
        "log_seed42_v2.txt is the one compared [logs]"
    ]


def test_seed_is_taken_from_the_name_where_the_log_is_silent(tmp_path: Path) -> None:
    logs = {name: log.replace("seed:", "sown:") for name, log in early_logs(SEEDS).items()}
    findings = check(write(tmp_path, fields(SEEDS), logs))
    assert of(findings, Severity.REFUSE) == []
    assert of(findings, Severity.REVIEW) == ["log-lines"]


def test_a_log_without_any_seed_is_reviewed(tmp_path: Path) -> None:
    logs = early_logs(SEEDS) | {"train.log": early_log(ONE).replace("seed:", "sown:")}
    findings = check(write(tmp_path, fields(SEEDS), logs))
    assert [finding.file for finding in findings if finding.severity is Severity.REVIEW] == ["train.log"]


def test_single_log_without_any_seed_is_that_of_the_claim(tmp_path: Path) -> None:
    logs = {"train.log": early_log(ONE).replace("seed:", "sown:")}
    assert refused(write(tmp_path, fields([ONE], seeds=None, seed_results=None), logs)) == []


# ---- keys of submission.json


def seeds_as(runs: list[Numbers], **keys: str) -> dict[str, dict[str, Any]]:
    return {str(run.seed): {keys.get(key, key): value for key, value in result(run).items()} for run in runs}


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": None},
        {"seed_results": None},
        {"seeds": seeds_as(SEEDS), "seed_results": None},
        {"seeds": {str(run.seed): float(run.val_bpb) for run in SEEDS}, "seed_results": None},
        {"seed_results": None, "results": seeds_as(SEEDS, artifact_bytes="bytes_total", train_time_s="train_seconds")},
        {"seed_results": [{"seed": run.seed, "val_bpb": float(run.val_bpb)} for run in SEEDS]},
        {"seed_results": seeds_as(SEEDS, val_bpb="legal_ttt_bpb", steps="step_stop", eval_time_s="ttt_eval_time_s")},
        {"val_bpb_std": 0.00039, "val_loss_std": 0.00064},
        {"val_bpb_std": 0.00032, "val_loss_std": 0.00053},
        {"val_bpb_std": None, "val_loss": 1.91236, "val_bpb": 1.13262},
        {"val_loss": None, "bytes_code": None, "code_bytes": CODE_BYTES},
        {"bytes_total": None, "artifact_bytes_max": SEEDS[1].total, "artifact_bytes_mean": 15_802_582},
        {"bytes_total": None, "artifact_size_bytes": SEEDS[1].total},
        {"date": "2026-03-21T00:00:00Z", "hardware": {"gpu": "8xH100"}, "techniques": ["a", "b"]},
        {"track": "track_10min_16mb", "base_pr": None},
        {"bytes_model_int6_zstd": 15_812_345, "bytes_model_raw": None, "step_stop": 7000, "wallclock_seconds": 600.03},
        {"train_time_seconds": 600, "eval_time_seconds": 70.123, "step_avg_ms": 85.7, "pre_quant_val_bpb": 1.12},
        {"compliance": {"training_under_600s": True, "artifact_under_16mb": True, "size_cap_bytes": 16_000_000}},
    ],
)
def test_variants_of_keys_pass(tmp_path: Path, changes: dict[str, Any]) -> None:
    values = {key: value for key, value in (fields(SEEDS) | changes).items() if value is not None}
    findings = check(write(tmp_path, values, early_logs(SEEDS)))
    assert [line for line in serious(findings) if not line.startswith("note")] == []


@pytest.mark.parametrize(
    "values",
    [
        {"mean_val_bpb": 1.13261522},
        {"val_bpb_3seed_mean": 1.132615, "val_bpb_3seed_std": 0.000394},
        {"results": {"mean_val_bpb": 1.13262, "std_val_bpb": 0.00039, "seeds": seeds_as(SEEDS)}},
    ],
)
def test_means_under_other_names_are_reviewed(tmp_path: Path, values: dict[str, Any]) -> None:
    values = fields(SEEDS, val_bpb=None, name=None, run_name="A run") | values
    findings = check(write(tmp_path, values, early_logs(SEEDS)))
    assert of(findings, Severity.REFUSE) == []
    reviewed = [finding for finding in findings if finding.severity is Severity.REVIEW]
    assert [finding.message.split(":")[0] for finding in reviewed if finding.rule == "json"] == ["name", "val_bpb"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"val_bpb": 1.1325}, "score"),
        ({"val_bpb": 1.13222222}, "score"),  # the best seed's, with all seeds named
        ({"val_bpb": 1.12}, "score"),  # of weights that are not stored
        ({"val_loss": 1.9}, "score"),
        ({"val_bpb_std": 0.0005}, "score"),
        ({"seeds": [1337, 42]}, "seeds"),
        ({"seeds": [1337, 42, 7, 8], "seed_results": None}, "logs"),
        ({"bytes_total": 15_800_123}, "bytes-total"),
        ({"bytes_code": CODE_BYTES - 1}, "bytes-code"),
        ({"artifact_bytes_mean": 15_000_000}, "bytes-total"),
        ({"bytes_model_int6_zstd": 15_000_000}, "bytes-total"),
        ({"step_stop": 20_000}, "steps"),
        ({"step_avg_ms": 43.5}, "steps"),
        ({"wallclock_seconds": 500}, "time"),
        ({"eval_time_seconds": 60}, "time"),
        ({"eval_time_seconds": 601}, "time-limit"),
    ],
)
def test_claims_that_the_logs_do_not_prove(tmp_path: Path, changes: dict[str, Any], rule: str) -> None:
    values = {key: value for key, value in (fields(SEEDS) | changes).items() if value is not None}
    if rule == "time-limit":
        del values["seed_results"]
    assert refused(write(tmp_path, values, early_logs(SEEDS))) == [rule]


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("val_bpb", 1.1327, "score"),
        ("val_loss", 1.9, "score"),
        ("artifact_bytes", 15_800_001, "bytes-total"),
        ("steps", 7001, "steps"),
        ("train_time_s", 599.9, "time"),
        ("train_time_s", 600.5, "time-limit"),
        ("eval_time_s", 70, "time"),
        ("eval_time_s", 600.1, "time-limit"),
        ("val_bpb", "1.13", "json"),
    ],
)
def test_results_that_the_log_does_not_prove(tmp_path: Path, key: str, value: object, rule: str) -> None:
    results = {str(run.seed): result(run) for run in SEEDS}
    results["1337"][key] = value  # pyright: ignore[reportArgumentType] - wrong on purpose
    folder = write(tmp_path, fields(SEEDS, seed_results=results), early_logs(SEEDS))
    if key == "eval_time_s" and value == 70:
        assert refused(folder) == []  # a whole number of seconds, rounded
        results["1337"][key] = 69
        folder = write(tmp_path, fields(SEEDS, seed_results=results), early_logs(SEEDS))
    assert rule in refused(folder)


def test_score_of_unstored_weights_is_named(tmp_path: Path) -> None:
    values = fields([ONE], val_bpb=1.12, val_loss=None, seed_results={"1337": {"val_bpb": 1.12}})
    messages = [str(finding) for finding in check(write(tmp_path, values, {"train_seed1337.log": late_log(ONE)}))]
    assert any("which is not the stored model" in message for message in messages)


def test_best_seed_as_the_total_is_reviewed_where_no_seeds_are_named(tmp_path: Path) -> None:
    values = fields(SEEDS, seeds=None, seed_results=None, val_bpb=1.13222222, val_loss=1.91172222)
    findings = check(write(tmp_path, values, early_logs(SEEDS)))
    assert of(findings, Severity.REFUSE) == []
    assert of(findings, Severity.REVIEW) == ["score"]


@pytest.mark.parametrize("bytes_total", [15_801_800, 15_802_582, 15_800_000])
def test_bytes_of_another_seed_or_of_the_mean_are_reviewed(tmp_path: Path, bytes_total: int) -> None:
    findings = check(write(tmp_path, fields(SEEDS, bytes_total=bytes_total), early_logs(SEEDS)))
    assert of(findings, Severity.REFUSE) == []
    assert of(findings, Severity.REVIEW) == ["bytes-total"]


def test_an_earlier_score_of_the_log_is_reviewed(tmp_path: Path) -> None:
    later = "quantized_ttt val_loss:2.5 val_bpb:1.33603200 eval_time:1000ms\n"
    values = fields([ONE], seeds=[1337])
    findings = check(write(tmp_path, values, {"train.log": late_log(ONE) + later}))
    assert of(findings, Severity.REFUSE) == []
    assert of(findings, Severity.REVIEW) == ["score", "seeds"]
