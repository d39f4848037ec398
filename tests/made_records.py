"""Records of the ledger, of which a test names what it is about."""

from dataclasses import replace
from typing import Any

from search.run_record import RunRecord


def made_record(run_id: str = "run-1", **changes: Any) -> RunRecord:
    """A queued run of one process, whose lease has run out."""
    plain = RunRecord(
        run_id=run_id,
        study="study",
        rung="proxy",
        trial_number=0,
        recipe_hash="h" * 16,
        code_sha256="c" * 64,
        seed=1337,
        folder=f"/runs/{run_id}",
        world_size=1,
        queued_at=0.0,
        lease_expires_at=0.0,
    )
    return replace(plain, **changes)
