"""Checks a submission folder against the challenge's rules; runs nothing of it unless a rerun is asked for."""

from pathlib import Path

from search.errors import SubmissionError
from search.verify.code import code_findings
from search.verify.files import file_findings, read_submission
from search.verify.finding import Finding, Severity
from search.verify.folder import LIMITS, Limits, folder_findings
from search.verify.rerun import Rerun, rerun_findings
from search.verify.scores import score_findings

ORDER = (Severity.REFUSE, Severity.REVIEW, Severity.NOTE)


def verify(folder: Path, rerun: Rerun | None = None, limits: Limits = LIMITS) -> list[Finding]:
    """Everything there is to say about a submission folder, worst first; it is valid if nothing is refused.

    Args:
        rerun: execute the folder's train_gpt.py again and compare. That runs code of whoever wrote the folder, with
            this user's rights and network; None runs nothing.

    Raises:
        SubmissionError: there is no such folder.
    """
    if not folder.is_dir():
        raise SubmissionError(f"{folder}: expected a submission folder, got none")
    if unreadable := folder_findings(folder, limits):
        return unreadable  # nothing in it is opened
    findings = file_findings(folder)
    submission = read_submission(folder, findings)
    if submission is not None:
        findings += score_findings(submission)
        findings += code_findings(folder)
        if rerun is not None:
            findings += rerun_findings(submission, rerun)
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))
