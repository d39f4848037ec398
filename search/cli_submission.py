"""The caddie commands for submissions: export writes a folder, verify checks one."""

import json
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from search.cli_options import STORAGE, Storage, existing
from search.cli_output import print_plain
from search.export.track import Track


def export(
    study: Annotated[str, typer.Argument(help="A study's name.")],
    out: Annotated[Path, typer.Option(help="New folder for the submission.")],
    author: Annotated[str, typer.Option(help="Your name, for submission.json.")],
    github_id: Annotated[str, typer.Option(help="Your GitHub account, for submission.json.")],
    trial: Annotated[int | None, typer.Option(help="Trial number.", show_default="of the best recipe")] = None,
    rung: Annotated[str | None, typer.Option(help="Rung.", show_default="the last with a measured trial")] = None,
    name: Annotated[str, typer.Option(help="Title.", show_default="after the trial")] = "",
    blurb: Annotated[str, typer.Option(help="One paragraph.", show_default="a list of the techniques")] = "",
    base_pr: Annotated[int | None, typer.Option(help="Pull request this builds on.")] = None,
    track: Annotated[
        Track, typer.Option(help="record refuses where a rule of the record track fails, and says which.")
    ] = Track.NON_RECORD,
    reference_loss: Annotated[
        float | None, typer.Option(help="Score to beat, nats per token of the same tokenizer; a record needs one.")
    ] = None,
    reference_bpb: Annotated[
        float | None, typer.Option(help="The same in bits per byte, converted by the runs' own ratio.")
    ] = None,
    with_weights: Annotated[bool, typer.Option("--with-weights", help="Also copy the weight files.")] = False,
    storage: Storage = STORAGE,
) -> None:
    """Write a submission folder from a trial's own runs."""
    existing(storage)
    from search.export.cautions import cautions
    from search.export.claim import Entry, Reference
    from search.export.evidence import claim_of
    from search.export.folder import export as export_claim
    from search.export.significance import significance
    from search.ledger import Ledger
    from search.store import open_storage

    is_compared = reference_loss is not None or reference_bpb is not None
    entry = Entry(
        author=author,
        github_id=github_id,
        date=date.today().isoformat(),
        name=name,
        blurb=blurb,
        base_pr=base_pr,
        track=track,
        reference=Reference(loss=reference_loss, bpb=reference_bpb) if is_compared else None,
    )
    claim = claim_of(open_storage(storage), Ledger.open(storage), study, entry, rung, trial)
    folder = export_claim(claim, out, with_weights=with_weights)
    for caution in cautions(claim):
        print_plain(f"warning: {caution}")
    if (test := significance(claim)) is not None:
        verdict = "significant" if test.is_significant else "not significant"
        print_plain(f"against the reference: {test.mean - test.reference_loss:+.5f} nats, p = {test.p:.2g}, {verdict}")
    print_plain(
        f"{folder}: {claim.origin.rung}/{claim.origin.trial_number}, val_bpb {claim.val_bpb:.6f} over"
        f" {len(claim.runs)} seed(s), {claim.artifact_bytes:,} bytes, {track.value}. Next: caddie verify {out} --rerun"
    )


Tolerance = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="How far val_bpb may be off after --rerun; runs on GPUs never repeat exactly.",
        show_default="0 for runs on a CPU, else 0.005",
    ),
]


def verify(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A submission folder, ours or anybody's.")],
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Import its code, build its model, compare the parameters; isolated.")
    ] = False,
    rerun: Annotated[bool, typer.Option("--rerun", help="Execute it again and compare; isolated.")] = False,
    unsafe: Annotated[
        bool,
        typer.Option("--unsafe", help="Where this host cannot isolate, run it all the same: with your rights!"),
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Shards for --rerun.", show_default="data/NAME, as in the log")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer for --rerun.", show_default="the folder's own")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for --smoke and --rerun, as the README's command has it.")
    ] = None,
    tolerance: Tolerance = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings, for programs.")] = False,
) -> None:
    """Check a submission against the challenge's rules; exit code 0 when nothing is refused, 1 otherwise.

    Its code is read, not run, unless --smoke or --rerun ask for it: then in a process without network that can open
    nothing but the shards, with limits of memory and time.
    """
    from search.cluster import count_gpus
    from search.verify.check import verify as find
    from search.verify.finding import is_valid
    from search.verify.folder import LIMITS
    from search.verify.rerun import Rerun, shards_of
    from search.verify.smoke import Smoke

    settings = variables(env or [])
    request = None
    if rerun:
        request = Rerun(
            data_path=data or shards_of(folder),
            tokenizer_path=tokenizer,
            tolerance=tolerance,
            num_gpus=count_gpus(),
            inherited=context.obj,
            settings=settings,
            is_unsafe_allowed=unsafe,
            announce=lambda line: typer.echo(line, err=True),
        )
    findings = find(folder, request, LIMITS, Smoke(context.obj, settings, unsafe) if smoke else None)
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


def variables(given: list[str]) -> dict[str, str]:
    """NAME=VALUE options as a mapping."""
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise typer.BadParameter(f"expected NAME=VALUE, got {name}{equals}", param_hint="--env")
    return {name: value for name, _, value in pairs}
