"""The caddie command that finds a proxy: calibrate."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.cli_options import LOCAL, RUNS, STORAGE, Address, Runs, Storage
from search.cli_output import print_plain


def calibrate(
    study_file: Annotated[Path, typer.Argument(help="A study, such as studies/quickstart.yaml.")],
    recipes: Annotated[int, typer.Option(min=3, help="Recipes that run at every budget.")] = 12,
    share: Annotated[
        list[float] | None,
        typer.Option(help="Of the last rung's budget; may be given again.", show_default="1/16, 1/8, 1/4, 1/2"),
    ] = None,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    address: Address = LOCAL,
    as_json: Annotated[bool, typer.Option("--json", help="The report, for programs.")] = False,
) -> None:
    """Find the cheapest budget that ranks recipes like a study's last rung: some recipes run at all of them."""
    from search.calibrate import SHARES, advice, calibration_report, calibration_spec, calibration_table
    from search.cluster import ray_variables
    from search.spec import load_spec

    spec = calibration_spec(load_spec(study_file), recipes, share or SHARES)
    from search.drive import Place, run_study
    from search.store import load_rungs, open_storage
    from search.study import read_rows

    os.environ.update(ray_variables(address, os.environ))
    console = Console(stderr=as_json)
    result = run_study(spec, Place(storage=storage, runs=runs, address=address), console, None)
    studies = load_rungs(open_storage(storage), spec.name)
    report = calibration_report({name: read_rows(study, name) for name, study in studies.items()})
    if as_json:
        sys.stdout.write(json.dumps(report, indent=1) + "\n")
        return
    console.print(calibration_table(report))
    print_plain(advice(report))
    if result.stopped_at is not None:
        print_plain(f"Stopped in {result.stopped_at}. The same command goes on.")
