"""The caddie data commands: documents to shards and a tokenizer, and proof that shards and tokenizer fit together."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from search.cli_output import print_marked

data_app = typer.Typer(no_args_is_help=True, help="Datasets: documents to shards and a tokenizer, and their checks.")


@data_app.command()
def build(
    docs: Annotated[Path, typer.Option(help='JSON lines of {"text": ...}; .xz, .gz, .zst and .bz2 are unpacked.')],
    out: Annotated[Path, typer.Option(help="New folder for shards and tokenizer.model.")],
    vocab_size: Annotated[int, typer.Option(help="Pieces of the tokenizer.")] = 1024,
    val_documents: Annotated[
        int, typer.Option(help="How many documents, the first ones, are for validation; this or --val-docs.")
    ] = 0,
    val_docs: Annotated[Path | None, typer.Option(help="A file of its own with the validation documents.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A SentencePiece model.", show_default="one trained on these documents")
    ] = None,
) -> None:
    """Build shards, and a tokenizer unless one is given, from documents."""
    from search.data import build_dataset

    console = Console()
    with console.status("reading") as line:
        counts = build_dataset(
            docs, out, vocab_size, val_documents, tokenizer, val_docs=val_docs,
            report=lambda stage, documents: line.update(f"{stage}: {documents:,} documents"),
        )  # fmt: skip
    for split, count in counts.items():
        console.print(f"{split}: {count.documents:,} documents, {count.tokens:,} tokens", highlight=False)
    console.print(f"Written to {out}. Next: caddie data check {out}", soft_wrap=True, highlight=False, markup=False)


@data_app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of shards.")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="A SentencePiece model.", show_default="tokenizer.model in the folder")
    ] = None,
) -> None:
    """Prove a dataset: headers, ids, BOS, the byte table against text, no validation document in train."""
    from search.data_check import check_dataset

    console = Console()
    checks = check_dataset(folder, tokenizer)
    for one in checks:
        mark, style = ("ok", "green") if one.ok else ("broken", "red")
        print_marked(console, mark, style, f"{one.name}: {one.detail}")
    raise typer.Exit(0 if all(one.ok for one in checks) else 1)
