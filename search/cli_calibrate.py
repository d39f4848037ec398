"""What caddie calibrate does, once its options are read."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search.calibrate import calibration_spec
from search.calibrate_report import advice, as_rung, calibration_report, calibration_table
from search.cli_output import print_plain
from search.drive import Place, run_study
from search.spec import load_spec
from search.store import open_storage
from search.study import read_rungs


def run_calibration(
    study_file: Path, place: Place, recipes: int, shares: Sequence[float] | None, as_json: bool
) -> None:
    """Run a study's calibration from wherever it stands, and report.

    Raises:
        SpecError, DatasetError, StoreError, RunnerError: as run_study.
    """
    spec = calibration_spec(load_spec(study_file), recipes, shares)
    console = Console(stderr=as_json)
    result = run_study(spec, place, console, None)
    report = calibration_report(spec, read_rungs(open_storage(place.storage), spec.name))
    if as_json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return
    console.print(calibration_table(report))
    print_plain(advice(report))
    if report["recommended"] is not None:
        print_plain(f"In a study file: {as_rung(report)}")
    if result.stopped_at is not None:
        print_plain(f"Stopped in {result.stopped_at}. The same command goes on.")
