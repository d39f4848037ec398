"""Checks a submission folder against the challenge's rules; runs nothing of it unless asked to."""

from pathlib import Path

from search.errors import SubmissionError
from search.run import CODE_FILE
from search.verify.code import code_findings
from search.verify.files import file_findings, read_submission
from search.verify.finding import Finding, Severity
from search.verify.folder import LIMITS, Limits, folder_findings
from search.verify.rerun import Rerun, rerun_findings
from search.verify.scores import score_findings
from search.verify.smoke import Smoke, smoke_findings

ORDER = (Severity.REFUSE, Severity.REVIEW, Severity.NOTE)


def verify(
    folder: Path, rerun: Rerun | None = None, limits: Limits = LIMITS, smoke: Smoke | None = None
) -> list[Finding]:
    """Everything there is to say about a submission folder, worst first; it is valid if nothing is refused.

    Args:
        rerun: execute the folder's train_gpt.py again, isolated, and compare; None does not.
        smoke: import it and build its model, isolated, and compare; None does not.

    Raises:
        SubmissionError: there is no such folder; or something is to run, and this host cannot isolate it.
    """
    if not folder.is_dir():
        raise SubmissionError(f"{folder}: expected a submission folder, got none")
    if unreadable := folder_findings(folder, limits):
        return unreadable  # nothing in it is opened
    findings = file_findings(folder)
    submission = read_submission(folder, findings)
    if (folder / CODE_FILE).is_file():
        findings += code_findings(folder)
    if submission is not None:
        findings += score_findings(submission)
        if smoke is not None:
            findings += smoke_findings(submission, smoke)
        if rerun is not None:
            findings += rerun_findings(submission, rerun)
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))
