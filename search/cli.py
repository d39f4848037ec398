"""The caddie command. The only module that prints, and that reads CADDIE_STORAGE and CADDIE_ADDRESS."""

import json
import os
import sys
import tempfile
import traceback
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from search.cli_data import data_app
from search.cli_options import LOCAL, RUNS, STORAGE, Address, Runs, Storage
from search.cli_output import print_marked
from search.cli_recipe import recipe_app
from search.cli_train import train
from search.errors import SearchError, SpecError, StoreError
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
    from search.store import open_storage, study_names

    opened = open_storage(storage)
    if study is None:
        names = study_names(opened)
        text = json.dumps(names) if as_json else "\n".join(names) or "No study yet. Next: caddie run STUDY.yaml"
        sys.stdout.write(f"{text}\n")
    elif as_json:
        sys.stdout.write(json.dumps(study_status(opened, Ledger.open(storage), study), indent=1) + "\n")
    else:
        print_tables(storage, study)


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


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="A study's name.")],
    out: Annotated[Path, typer.Option(help="New folder for the submission.")],
    author: Annotated[str, typer.Option(help="Your name, for submission.json.")],
    github_id: Annotated[str, typer.Option(help="Your GitHub account, for submission.json.")],
    trial: Annotated[int | None, typer.Option(help="Trial number.", show_default="of the best recipe")] = None,
    rung: Annotated[str | None, typer.Option(help="Rung.", show_default="the last with a feasible trial")] = None,
    name: Annotated[str, typer.Option(help="Title.", show_default="after the trial")] = "",
    blurb: Annotated[str, typer.Option(help="One paragraph.", show_default="a list of the techniques")] = "",
    base_pr: Annotated[int | None, typer.Option(help="Pull request this builds on.")] = None,
    with_weights: Annotated[bool, typer.Option("--with-weights", help="Also copy the weight files.")] = False,
    storage: Storage = STORAGE,
) -> None:
    """Write a submission folder from a trial's own runs."""
    existing(storage)
    from search.claim import Entry
    from search.evidence import claim_of
    from search.ledger import Ledger
    from search.store import open_storage
    from search.submission import export as export_claim

    entry = Entry(
        author=author, github_id=github_id, date=date.today().isoformat(), name=name, blurb=blurb, base_pr=base_pr
    )
    claim = claim_of(open_storage(storage), Ledger.open(storage), study, entry, rung, trial)
    folder = export_claim(claim, out, with_weights=with_weights)
    print_plain(
        f"{folder}: {claim.origin.rung}/{claim.origin.trial_number}, val_bpb {claim.val_bpb:.6f} over"
        f" {len(claim.runs)} seed(s), {claim.artifact_bytes:,} bytes. Next: caddie verify {out} --rerun"
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A submission folder, ours or anybody's.")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Execute it again and compare. Runs the folder's code!")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Shards for --rerun.", show_default="data/NAME, as in the log")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer for --rerun.", show_default="the folder's own")
    ] = None,
    tolerance: Annotated[float, typer.Option(help="How far val_bpb may be off; GPU runs never repeat exactly.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Findings, for programs.")] = False,
) -> None:
    """Check a submission against the challenge's rules; exit code 0 when nothing is refused, 1 otherwise."""
    from search.verify.check import verify as find
    from search.verify.finding import is_valid
    from search.verify.rerun import Rerun, logged_dataset

    shards = (data or Path("data") / logged_dataset(folder)) if rerun else None
    request = None
    if shards is not None:
        from search.cluster import count_gpus

        request = Rerun(data_path=shards, tokenizer_path=tokenizer, tolerance=tolerance, num_gpus=count_gpus())
    findings = find(folder, request)
    if as_json:
        facts = [
            {"rule": f.rule, "severity": f.severity.value, "file": f.file, "line": f.line, "message": f.message}
            for f in findings
        ]
        sys.stdout.write(json.dumps(facts, indent=1) + "\n")
    else:
        for finding in findings:
            print_plain(str(finding))
        print_plain(f"{folder}: {'valid' if is_valid(findings) else 'refused'}")
    raise typer.Exit(0 if is_valid(findings) else 1)


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
    for check in examine(storage=storage, runs=runs, data=data, address=address):
        style = {CheckState.OK: "green", CheckState.MISSING: "yellow"}.get(check.state, "red")
        advice = [check.advice] if check.advice else []
        print_marked(console, check.state, style, f"{check.name}: {check.detail}", *advice)
        broken += [check.name] if check.state is CheckState.BROKEN else []
    console.print(f"Broken: {', '.join(broken)}." if broken else "Nothing is broken.")
    raise typer.Exit(1 if broken else 0)


def print_plain(line: str) -> None:
    """Print a line as it is: whole, however narrow the terminal, and with its brackets."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_tables(storage: str, study: str) -> None:
    """A study's summary and the best recipes of each rung."""
    from search.ledger import Ledger
    from search.status import rung_table, study_status, summary_lines
    from search.store import load_rungs, open_storage
    from search.study import read_rows

    opened = open_storage(storage)
    for line in summary_lines(study_status(opened, Ledger.open(storage), study)):
        print_plain(line)
    for rung, optuna_study in load_rungs(opened, study).items():
        rows = read_rows(optuna_study, rung)
        if not all(row.is_open for row in rows):
            console.print(rung_table(rung, rows))


def prepare_ray(address: str) -> None:
    """Set the variables that Ray reads once, as it is imported."""
    from search.cluster import ray_variables

    os.environ.update(ray_variables(address, os.environ))


def existing(storage: str) -> str:
    """The storage, which must be there already: reading makes no database.

    Raises:
        StoreError: it is an SQLite file that does not exist.
    """
    path = storage.removeprefix("sqlite:///")
    if path != storage and not Path(path).is_file():
        raise StoreError(f"storage {storage}: expected an existing database, got none; caddie run makes one")
    return storage


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
