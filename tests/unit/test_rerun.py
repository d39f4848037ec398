"""Reruns of scripts that are not ours, of hostile ones, and on hosts that cannot isolate them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_runs import hand_made

from search.errors import SubmissionError
from search.verify.files import read_submission
from search.verify.finding import Finding, Severity
from search.verify.rerun import Rerun, logged_dataset, rerun_findings, shards_of

REFUSE, REVIEW, NOTE = Severity.REFUSE, Severity.REVIEW, Severity.NOTE
# As the challenge's first script tells its results, with a number format of its own.
FOREIGN = """
import glob, os
from pathlib import Path

data, seed = os.environ["DATA_PATH"], int(os.environ["SEED"])
assert [Path(name).read_bytes() for name in glob.glob(data + "/*.bin")] == [b"tokens"]
assert Path(os.environ["TOKENIZER_PATH"]).read_bytes() == b"tokenizer"
os.makedirs("logs")
weights = bytes(int(os.environ.get("WEIGHTS", 23)))
Path("final_model.int8.ptz").write_bytes(weights)
code_bytes = Path(__file__).stat().st_size
lines = [
    f"Serialized model int8+zlib: {len(weights)} bytes (payload:99 raw_torch:100 payload_ratio:3.91x)",
    f"Code size: {code_bytes} bytes",
    f"Total submission size int8+zlib: {code_bytes + len(weights)} bytes",
    "final_int8_zlib_roundtrip val_loss:2.0728 val_bpb:1.2000 eval_time:1500ms",
    f"final_int8_zlib_roundtrip_exact val_loss:2.07280000 val_bpb:{1.2 + seed / 7e5:.8f}",
]
Path("logs", os.environ["RUN_ID"] + ".txt").write_text("\\n".join(lines))
"""


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "datasets" / "fineweb10B_sp1024"
    folder.mkdir(parents=True)
    (folder / "fineweb_train_000000.bin").write_bytes(b"tokens")
    return folder


def rerun_of(folder: Path, code: str, rerun: Rerun) -> list[Finding]:
    """What a rerun says of a folder with this code."""
    submission = read_submission(hand_made(folder / "out", code.encode()), [])
    assert submission is not None
    return list(rerun_findings(submission, rerun))


def said(findings: list[Finding], severity: Severity) -> list[str]:
    return [finding.message for finding in findings if finding.severity is severity]


def rerun(shards: Path, settings: dict[str, str] | None = None) -> Rerun:
    return Rerun(
        inherited=os.environ,
        data_path=shards,
        world_size=1,
        tolerance=0.0,
        deadline_seconds=60.0,
        settings=settings or {},
        is_unsafe_allowed=True,
    )


def test_a_script_of_others_is_told_by_its_own_log(tmp_path: Path, shards: Path) -> None:
    findings = rerun_of(tmp_path, FOREIGN, rerun(shards))
    assert said(findings, REFUSE) == []
    [message] = said(findings, NOTE)
    assert "val_bpb 1.20001000 (the same digits)" in message
    assert f"{len(FOREIGN.encode()) + 23} artifact bytes" in message


def test_a_script_that_prints_its_results(tmp_path: Path, shards: Path) -> None:
    code = FOREIGN.replace('Path("logs", os.environ["RUN_ID"] + ".txt").write_text("\\n".join(lines))', "print(*lines)")
    code = code.replace("print(*lines)", 'print("\\n".join(lines))')
    assert "the same digits" in said(rerun_of(tmp_path, code, rerun(shards)), NOTE)[0]


def test_data_lies_where_scripts_look_for_it(tmp_path: Path, shards: Path) -> None:
    code = FOREIGN.replace('os.environ["DATA_PATH"]', '"./data/datasets/fineweb10B_sp1024"')
    assert said(rerun_of(tmp_path, code, rerun(shards)), REFUSE) == []


def test_variables_of_the_command_are_given(tmp_path: Path, shards: Path) -> None:
    [message] = said(rerun_of(tmp_path, FOREIGN, rerun(shards, {"WEIGHTS": "24"})), REFUSE)
    assert "artifact bytes again" in message


def test_weights_that_were_only_talked_about(tmp_path: Path, shards: Path) -> None:
    code = FOREIGN.replace("Path(__file__)", 'Path("final_model.int8.ptz").unlink()\ncode_bytes = Path(__file__)')
    code = code.replace("code_bytes = Path", "Path", 1)
    [message] = said(rerun_of(tmp_path, code, rerun(shards)), REVIEW)
    assert message == "expected a file of the 23 bytes of weights it names, got none"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os\nos.symlink('/etc/passwd', 'train.log')\nprint('no score')\n", "its last line: no score"),
        ("import os\nos.mkfifo('result.json')\nos.mkfifo('train.log')\nprint('pipes')\n", "its last line: pipes"),
        ("print('\\x1b[2J\\x07')\n", "its last line: \\x1b[2J\\x07"),
        ("open('result.json', 'w').write('{\"outcome\": \"measurement\"}')\n", "no result; its last line: "),
        ("open('train.log', 'w').truncate(2**33)\nprint('large')\n", "its last line: large"),
        ("import os, sys\nos.kill(os.getppid(), 9)\nos.abort()\n", "exit code 1"),
    ],
    ids=["link", "pipe", "escape", "half", "large", "abort"],
)
def test_what_a_hostile_run_leaves_is_read_with_care(tmp_path: Path, shards: Path, code: str, reason: str) -> None:
    [message] = said(rerun_of(tmp_path, code, rerun(shards)), REFUSE)
    assert reason in message


def test_shards_that_are_not_there_are_no_fault_of_the_folder(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(SubmissionError, match="expected a folder of shards, got none; --data names one"):
        rerun_of(tmp_path, FOREIGN, rerun(shards / "nowhere"))


@pytest.mark.parametrize("name", ["/root/.ssh", "../../etc", "..", "-x"])
def test_a_log_does_not_choose_what_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "train_seed1.log").write_text(f"train_loader:dataset:{name} train_shards:80\n")
    with pytest.raises(SubmissionError, match="expected the plain name of a dataset"):
        logged_dataset(tmp_path)


def test_shards_lie_as_we_or_the_challenge_have_them(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.log").write_text(f"train_loader:dataset:{shards.name} train_shards:80\n")
    assert shards_of(tmp_path).resolve() == shards
    (tmp_path / "data" / shards.name).mkdir()
    assert shards_of(tmp_path) == Path("data", shards.name)


# A user namespace that allows no further ones: there, several ranks cannot be given a network of their own.
WITHOUT_NAMESPACES = ["unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"']
TWO_RANKS = """
import sys
from dataclasses import replace
from pathlib import Path
from search.verify.isolate import Job, run_untrusted
from search.verify.watch import Limits

folder = Path(sys.argv[1])
command = [sys.executable, "-c", "import os; print(sorted(os.environ), os.getcwd())"]
job = Job(command=command, folder=folder, output=folder / "output.txt", limits=Limits(seconds=60.0),
          environment={}, needs_loopback=True)
ended = run_untrusted(job, is_unsafe_allowed=sys.argv[2] == "unsafe")
print(ended.exit_code, ended.isolation, [str(finding) for finding in ended.findings()])
"""


@pytest.mark.parametrize("how", ["safe", "unsafe"])
def test_a_host_that_cannot_isolate_refuses_unless_told_otherwise(tmp_path: Path, how: str) -> None:
    if subprocess.run([*WITHOUT_NAMESPACES, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace to make such a host of")
    ended = subprocess.run(
        [*WITHOUT_NAMESPACES, sys.executable, "-c", TWO_RANKS, str(tmp_path), how],
        capture_output=True,
        text=True,
        env={**os.environ, "SECRET": "hunter2"},
    )
    if how == "safe":
        assert "this host cannot isolate a program: namespaces and Landlock: unshare: " in ended.stderr
        assert "expected one process, got several" in ended.stderr
        assert "--unsafe runs it with your rights and network" in ended.stderr
        assert (tmp_path / "output.txt").read_text() == ""
        return
    assert ended.stdout.startswith("0 not isolated ")
    assert "review: train_gpt.py: expected a run apart from this host" in ended.stdout
    output = (tmp_path / "output.txt").read_text()
    assert str(tmp_path) in output
    assert "SECRET" not in output


@pytest.mark.parametrize(
    "difference, tolerance, severity",
    [(-0.1, 0.0, REFUSE), (-0.1, 0.001, REVIEW), (0.1, 0.001, REFUSE), (0.1, 0.2, NOTE)],
)
def test_more_than_was_claimed_is_for_a_reviewer_and_less_is_refused(
    tmp_path: Path, shards: Path, difference: float, tolerance: float, severity: Severity
) -> None:
    """A faster machine makes more steps in the same time; without a tolerance, digits must be the same."""
    code = FOREIGN.replace("1.2 + seed / 7e5", str(1.20001 + difference))
    found = rerun_of(tmp_path, code, replace(rerun(shards), tolerance=tolerance))
    [message] = [one.message for one in found if one.severity is severity and "val_bpb" in one.message][:1]
    assert "unknown steps" in message
    worst = {one.severity for one in found if "val_bpb" in one.message}
    assert worst <= {severity, NOTE}
