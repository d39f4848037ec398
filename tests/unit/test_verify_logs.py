"""Lines of logs in the forms that the challenge's scripts printed over time, and what looks like them and is none."""

import pytest
from challenge_folders import CODE_BYTES, SEPARATOR, Numbers, early_log, late_log

from search.verify.log import EXPECTED, NEEDED, read_log
from search.verify.log_text import clean

ONE = Numbers(seed=1337, val_bpb="1.13261234", val_loss="1.91234567", weights=15_800_000)


@pytest.mark.parametrize("log", [early_log(ONE), late_log(ONE)])
def test_all_values_are_read(log: str) -> None:
    found = read_log(log)
    assert found.missing((*NEEDED, *EXPECTED)) == []
    expected = {
        "seed": 1337,
        "steps": 7000,
        "train_ms": 600_030,
        "eval_ms": 70_123,
        "world_size": 8,
        "train_shards": 80,
        "weight_bytes": 15_800_000,
        "code_bytes": CODE_BYTES,
        "total_bytes": 15_800_000 + CODE_BYTES,
    }
    assert {name: found.integer(name) for name in expected} == expected
    assert found.text("val_bpb") == ONE.val_bpb
    assert found.text("val_loss") == ONE.val_loss
    assert (found.text("dataset") or "").startswith("fineweb10B_sp")


@pytest.mark.parametrize(
    "lines",
    [
        "final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:1.2244 eval_time:1401ms\n"
        "final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570",
        "final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:1.2244 eval_time:1401ms eval_seq_len:2048\n"
        "final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570",
        "final_sliding_window_eval stride:64 val_loss:2.0727 val_bpb:1.2244 eval_time:1401ms\n"
        "final_sliding_window_eval_exact stride:64 val_loss:2.07269931 val_bpb:1.22436570",
        "final_int6_sliding_window val_loss:2.0727 val_bpb:1.2244 stride:64 eval_time:1401ms\n"
        "final_int6_sliding_window_exact val_loss:2.07269931 val_bpb:1.22436570",
        "final_int8_zlib_roundtrip_sliding val_loss:2.07269931 val_bpb:1.22436570 eval_time:1401ms",
        "final_adapted val_loss:2.0727 val_bpb:1.2244 stride:32 eval_time:1401ms\n"
        "final_adapted_exact val_loss:2.07269931 val_bpb:1.22436570",
        "quantized_sliding_window val_loss:2.07269931 val_bpb:1.22436570 eval_time:1401ms",
        "quantized_ttt_phased val_loss:2.07269931 val_bpb:1.22436570 eval_time:1401ms\ntotal_eval_time:1.4s",
        "legal_ttt val_loss:2.0727 val_bpb:1.2244 eval_time:1401ms\n"
        "legal_ttt_exact val_loss:2.07269931 val_bpb:1.22436570",
        "legal_ttt_exact val_loss:2.07269931 val_bpb:1.22436570 eval_time:1401ms",
        "\x1b[32mquantized_sliding_window val_loss:2.07269931 val_bpb:1.22436570 eval_time:1401ms\x1b[0m",
        "[rank0]: quantized_sliding_window val_loss: 2.07269931 val_bpb: 1.22436570 eval_time: 1401ms",
        "2026-04-01 10:11:12,345 - INFO - quantized_sliding_window val_loss:2.07269931 val_bpb:1.22436570 "
        "eval_time:1401ms",
        "[10:11:12] quantized_sliding_window val_loss=2.07269931 val_bpb=1.22436570 eval_time=1.401s",
    ],
)
def test_score_lines(lines: str) -> None:
    log = read_log(lines)
    assert (log.text("val_loss"), log.text("val_bpb")) == ("2.07269931", "1.22436570")
    assert log.integer("eval_ms") == 1401
    assert len(log.stored_scores) == 1
    assert log.stored_scores[0].label.split("_")[0] in {"final", "quantized", "legal"}


def test_rounded_scores_are_scores() -> None:
    log = read_log("final_sliding val_loss:2.9869 val_bpb:1.1565 (stride=16, T=0.90) eval_time:429311ms")
    assert log.text("val_bpb") == "1.1565"
    assert read_log("ppm_mixer val_bpb:0.94289082 eval_time:480934ms order=5").text("val_bpb") == "0.94289082"


@pytest.mark.parametrize(
    "line",
    [
        "step:7000/9000 val_loss:1.9300 val_bpb:1.1430 train_time:600030ms step_avg:85.72ms",
        "5068/20000 val_loss: 2.8144 val_bpb: 1.0895",
        "  ttt_chunk [1238/1238] bpb=1.082504 time=343.2s",
        "  sliding_eval [ 99.1%] 120032/121136 windows running_bpb=1.152203",
        "ttp: b2/782 bl:2.8299 bb:1.2438 rl:2.3184 rb:1.0680 dl:83-89 gd:1",
        "val_bpb:enabled tokenizer_kind=sentencepiece",
        '    log0(f"final_int8_zlib_roundtrip_exact val_loss:{q_val_loss:.8f} val_bpb:{q_val_bpb:.8f}")',
        "# final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570",
        "chunk 3 of 9 val_loss:2.0 val_bpb:1.2",
    ],
)
def test_other_lines_are_no_scores(line: str) -> None:
    assert read_log(line).scores == ()


@pytest.mark.parametrize(
    "label", ["pre-quantization post-ema", "DIAGNOSTIC post_ema", "diagnostic quantized", "pre_quant", "fp32"]
)
def test_scores_of_other_weights_are_not_those_of_the_artifact(label: str) -> None:
    log = read_log(f"{label} val_loss:2.07269931 val_bpb:1.22436570 eval_time:1401ms")
    assert len(log.scores) == 1
    assert log.stored_scores == ()
    assert log.text("val_bpb") is None


def test_scores_before_the_weights_were_stored_are_of_other_weights() -> None:
    lines = [
        "post_train_base val_loss:0.8496 val_bpb:1.2257 eval_time:8169ms",
        "Serialized model fp32/bf16: 110074917 bytes",
        "final_int6_early val_loss:0.9000 val_bpb:1.3000",
        "Serialized model int6+zstd22: 15721735 bytes (payload:27973840)",
        "baseline_with_correction val_loss:2.4263 val_bpb:1.4370",
    ]
    log = read_log("\n".join(lines))
    assert [score.label for score in log.stored_scores] == ["final_int6_early", "baseline_with_correction"]


@pytest.mark.parametrize(
    ("lines", "weights", "code", "total"),
    [
        ("Serialized model int8+zlib: 15,815,847 bytes (payload:1 raw_torch:2)", 15_815_847, None, None),
        ("Serialized model quantized+brotli: 15973467 bytes", 15_973_467, None, None),
        ("Serialized model int6+zstd-22: 15817180 bytes\nCode size: 61629 bytes", 15_817_180, 61_629, None),
        ("Artifact: 15,870,797 bytes (15.14 MB)", 15_870_797, None, None),
        (
            "Code size: 70853 bytes\nSerialized model int6: 15923000 bytes\nTotal submission size: 15993853 bytes",
            *(15_923_000, 70_853, 15_993_853),
        ),
        (
            "artifact:15.92MB ternary:64880640(14239486B) fp:2513744(2537376B) code:70853\n"
            "budget:15993853/16000000 (15.99/16.00MB) FITS",
            *(15_923_000, 70_853, 15_993_853),
        ),
        (
            "Code size (uncompressed): 146673 bytes\nCode size (compressed): 30305 bytes\n"
            "Serialized model quantized+brotli: 15910075 bytes\nTotal submission size quantized+brotli: 15940380 bytes",
            *(15_910_075, 30_305, 15_940_380),
        ),
        ("Serialized model: 105783807 bytes\nTotal submission size: 105849940 bytes", None, None, None),
    ],
)
def test_byte_lines(lines: str, weights: int | None, code: int | None, total: int | None) -> None:
    log = read_log(lines)
    assert tuple(log.integer(name) for name in ("weight_bytes", "code_bytes", "total_bytes")) == (weights, code, total)


@pytest.mark.parametrize(
    ("lines", "milliseconds"),
    [
        ("stopping_early: wallclock_cap train_time: 588042ms step: 5068/20000", 588_042),
        ("step:13780/20000 val_loss:2.0606 val_bpb:1.2172 train_time:600038ms step_avg:43.54ms", 600_038),
        ("4500/4500 train_loss: 2.9783 train_time: 19.8m tok/s: 2982703", 1_188_000),
        ("Training complete in 600s", 600_000),
    ],
)
def test_train_times(lines: str, milliseconds: int) -> None:
    assert read_log(lines).integer("train_ms") == milliseconds


def test_minutes_of_an_earlier_step_are_not_those_of_training() -> None:
    log = read_log("5000/20000 train_loss: 2.8 train_time: 9.6m tok/s: 1\n5068/20000 val_loss: 2.8 val_bpb: 1.1\n")
    assert log.integer("train_ms") is None


@pytest.mark.parametrize(
    "line",
    [
        "seed:42",
        "  seed: 42",
        "Seed: 42, Steps: 7000, Warmdown: 2100",
        "(.venv) root@host:/workspace# SEED=42 torchrun --standalone train_gpt.py",
        "lr:embed=0.035 matrix=0.025 batch:786432 wall:600s seed:42",
        "scalar_lr=0.02 seed=42 seq_len_start=0",
    ],
)
def test_seeds(line: str) -> None:
    assert read_log(line).integer("seed") == 42


@pytest.mark.parametrize("line", ["calib_seed: 42", "seed = int(os.environ['SEED'])", "data_seed=42", "seeded 42"])
def test_other_seeds_are_not_the_run_s(line: str) -> None:
    assert read_log(line).integer("seed") is None


def test_a_line_of_its_own_names_the_seed_before_any_other() -> None:
    assert read_log("SEED=7 torchrun train_gpt.py\n  seed: 42\n").integer("seed") == 42


SOURCE = '''\
"""Docstring
final_int8_zlib_roundtrip_exact val_loss:1.00000000 val_bpb:0.90000000
Serialized model int8+zlib: 1 bytes
"""
import os
from pathlib import Path
seed = 3
class Model:
    def run(self):
        log0(f"final val_bpb:{x:.8f}")
def main():
    pass
if __name__ == "__main__":
    main()
NOTES = """
final_int8_zlib_roundtrip_exact val_loss:1.00000000 val_bpb:0.90000000
stopping_early: wallclock_cap train_time:1ms step:1/9000
"""
'''


@pytest.mark.parametrize("head", ["", "  seed: 1337\n"])
def test_source_that_a_log_prints_first_is_no_result(head: str) -> None:
    # The part of the source before its first import is told apart from results only by what follows it.
    text = f"{head}{SOURCE.split(chr(10), 4)[4]}{SEPARATOR}\nRunning Python 3.12\n{SEPARATOR}\n{early_log(ONE)}"
    log = read_log(text)
    assert log.integer("seed") == 1337
    assert [score.val_bpb for score in log.stored_scores] == [1.14900002, 1.13261234]
    assert log.integer("train_ms") == 600_030


def test_source_without_a_separator_ends_with_its_last_statement() -> None:
    source = "import os\nimport sys\ndef main():\n    val_bpb = 1.0\n"
    log = read_log(source + early_log(ONE))
    assert log.text("val_bpb") == ONE.val_bpb
    assert log.integer("seed") == 1337


@pytest.mark.parametrize(
    "prefix",
    ["[rank0]: ", "[default0]:", "2026-04-01T10:11:12.5Z ", "[2026-04-01 10:11:12,345] ", "INFO: ", "\x1b[1;31m"],
)
def test_prefixes(prefix: str) -> None:
    assert clean(f"{prefix}Code size: 5 bytes") == "Code size: 5 bytes"


@pytest.mark.parametrize("line", ["rank: 0", "step:1/9 train_loss:6.9", "10/20000 val_loss: 9.0", "information"])
def test_lines_that_only_look_prefixed(line: str) -> None:
    assert clean(line) == line


def test_numbers_without_end_are_left_alone() -> None:
    digits = "9" * 1900
    for line in ("Code size: {} bytes", "final val_loss:2.0 val_bpb:{}.0", "train_time:{}ms", "seed:{}", "budget:{}/1"):
        read_log(line.format(digits))
