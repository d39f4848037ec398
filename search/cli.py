"""The caddie command. The only module that reads variables of the process; it and its parts alone print."""

import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from search.cli_data import data_app
from search.cli_options import LOCAL, RUNS, STORAGE, Address, Runs, Storage, existing
from search.cli_output import print_marked, print_plain
from search.cli_recipe import recipe_app
from search.cli_submission import export, verify
from search.cli_train import train
from search.errors import SearchError, SpecError
from spaces.fields import SpaceError
from trainer.errors import TrainerError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Architecture search for the Parameter Golf challenge: from a study file to a verified submission.",
    epilog="First steps: caddie doctor; caddie run studies/quickstart.yaml; caddie status quickstart."
    " studies/README.md explains study files.",
)
app.add_typer(data_app, name="data")
app.add_typer(recipe_app, name="recipe")
console = Console()


@app.callback()
def hand_down(context: typer.Context) -> None:
    """Give the process's variables to the commands that start others."""
    context.obj = dict(os.environ)


@app.command()
def run(
    study_file: Annotated[Path, typer.Argument(help="A study, such as studies/quickstart.yaml.")],
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    address: Address = LOCAL,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Stop after this many more trials.")] = None,
) -> None:
    """Start a study, or go on where it stopped. Ctrl-C lets runs finish; twice cancels them."""
    from search.spec import load_spec

    spec = load_spec(study_file)  # before the import of all that runs it, which takes a second
    from search.drive import Place, run_study

    prepare_ray(address)
    result = run_study(spec, Place(storage=storage, runs=runs, address=address), console, max_trials)
    print_tables(storage, spec.name)
    if result.nothing_promoted_from is not None:
        raise SpecError(f"rung {result.nothing_promoted_from}: expected a feasible trial to promote, got none")
    if result.stopped_at is not None:
        if result.refusal is not None:
            print_plain(f"Nothing more fits what the study may cost: {result.refusal}. Raise it in {study_file}.")
        print_plain(f"Stopped in rung {result.stopped_at}. Go on with: caddie run {study_file}")
        return
    print_plain(f"Finished. Next: caddie status {spec.name} · caddie dashboard")
    print_plain(f"      caddie export {spec.name} --out submissions/{spec.name} --author NAME --github-id ID")


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(help="A study's name; without one, all are listed.")] = None,
    storage: Storage = STORAGE,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Rungs, trials by state, best feasible, Pareto front, GPU-seconds spent, what runs now."""
    existing(storage)
    from search.ledger import Ledger
    from search.status import study_status
    from search.store import open_storage, stored_spec, study_names
    from search.study import read_rungs

    opened = open_storage(storage)
    if study is None:
        names = study_names(opened)
        text = json.dumps(names) if as_json else "\n".join(names) or "No study yet. Next: caddie run STUDY.yaml"
        sys.stdout.write(f"{text}\n")
    elif as_json:
        spec, runs = stored_spec(opened, study), Ledger.open(storage).runs(study)
        facts = study_status(spec, read_rungs(opened, study), runs, time.time())
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        print_tables(storage, study)


@app.command()
def calibrate(
    study_file: Annotated[Path, typer.Argument(help="A study, such as studies/quickstart.yaml.")],
    recipes: Annotated[int, typer.Option(min=3, help="Recipes that run at every budget.")] = 12,
    share: Annotated[
        list[float] | None,
        typer.Option(
            help="Of the last rung's budget, beside what the study's calibrate section names; may be given again.",
            show_default="1/16, 1/8, 1/4, 1/2 without such a section",
        ),
    ] = None,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    address: Address = LOCAL,
    as_json: Annotated[bool, typer.Option("--json", help="The report, for programs.")] = False,
) -> None:
    """Find the cheapest budget that ranks recipes like a study's last rung: some recipes run at all of them."""
    prepare_ray(address)
    from search.cli_calibrate import run_calibration
    from search.drive import Place

    run_calibration(study_file, Place(storage=storage, runs=runs, address=address), recipes, share or None, as_json)


@app.command()
def promote(
    study: Annotated[str, typer.Argument(help="A study's name.")],
    trial: Annotated[int | None, typer.Option(help="Trial number.", show_default="the best feasible")] = None,
    rung: Annotated[str | None, typer.Option(help="Rung the trial is in.", show_default="the first")] = None,
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    address: Address = LOCAL,
) -> None:
    """Queue a trial into the next rung and run it."""
    existing(storage)
    from search.drive import Place, promote_trial

    prepare_ray(address)
    place = Place(storage=storage, runs=runs, address=address)
    target, result = promote_trial(study, place, console, trial, rung)
    print_tables(storage, study)
    console.print(f"Stopped in rung {target}." if result.stopped_at else f"Rung {target} is finished.")


app.command()(export)
app.command()(verify)


@app.command()
def dashboard(
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    host: Annotated[str, typer.Option(help="Whoever reaches it can read everything; there is no login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8080,
) -> None:
    """Serve Optuna Dashboard over the studies, for reading only. Ctrl-C ends it."""
    from search.dashboard import serve

    serve(storage, runs, host, port, announce=lambda address: console.print(f"Dashboard: {address} (Ctrl-C ends it)"))


app.command()(train)


@app.command()
def doctor(
    storage: Storage = STORAGE,
    runs: Runs = RUNS,
    data: Annotated[Path, typer.Option(help="Folder of shards.")] = Path("data/quickstart"),
    address: Address = LOCAL,
) -> None:
    """What works on this machine, what is missing, what to do about it; exit code 1 where something is broken."""
    from search.doctor import CheckState, examine

    broken: list[str] = []
    for check in examine(os.environ, storage=storage, runs=runs, data=data, address=address):
        style = {CheckState.OK: "green", CheckState.MISSING: "yellow"}.get(check.state, "red")
        advice = [check.advice] if check.advice else []
        print_marked(console, check.state, style, f"{check.name}: {check.detail}", *advice)
        broken += [check.name] if check.state is CheckState.BROKEN else []
    console.print(f"Broken: {', '.join(broken)}." if broken else "Nothing is broken.")
    raise typer.Exit(1 if broken else 0)


def print_tables(storage: str, study: str) -> None:
    """A study's summary and the best recipes of each rung."""
    from search.ledger import Ledger
    from search.rung_table import rung_tables
    from search.status import study_status, summary_lines
    from search.store import open_storage, stored_spec
    from search.study import read_rungs

    opened = open_storage(storage)
    spec, rungs = stored_spec(opened, study), read_rungs(opened, study)
    for line in summary_lines(study_status(spec, rungs, Ledger.open(storage).runs(study), time.time())):
        print_plain(line)
    for table in rung_tables(spec, rungs):
        console.print(table)


def prepare_ray(address: str) -> None:
    """Set the variables that Ray reads once, as it is imported."""
    from search.cluster import ray_variables

    os.environ.update(ray_variables(address, os.environ))


def main() -> None:
    """Run the command; an error is one line on standard error and exit code 2."""
    try:
        app()
    except (SearchError, SpaceError, TrainerError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the boundary: a bug is one line too, and its traceback is kept
        fail(f"bug: {type(error).__name__}: {error} (traceback in {keep_traceback()})")


def keep_traceback() -> Path:
    """Write the traceback of the error that is being handled, here or where anybody may write."""
    text = traceback.format_exc()
    try:
        log = Path("caddie-error.log")
        log.write_text(text, encoding="utf-8")
    except OSError:
        log = Path(tempfile.mkdtemp(prefix="caddie-")) / "caddie-error.log"
        log.write_text(text, encoding="utf-8")
    return log


def fail(message: str) -> None:
    """Say what is wrong and leave."""
    line = Text(f"caddie: {' '.join(message.split())}", style="red")
    Console(stderr=True).print(line, soft_wrap=True)
    sys.exit(2)
