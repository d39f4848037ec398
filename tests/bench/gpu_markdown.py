"""Markdown of the performance benchmark's records: tables, and by a letter where each row was measured."""

from collections.abc import Sequence
from string import ascii_lowercase

from gpu_records import Record, Records, Result

PEAK_FLOPS = 989e12  # dense bf16 of an H100 SXM, by its data sheet


class Sources:
    """The records, and the letters of the calls that made those that were shown."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.calls: dict[tuple[str, ...], tuple[str, str]] = {}

    def named(self, prefix: str) -> list[Record]:
        """The records of a part, or of a group of its cases."""
        return [record for name, record in sorted(self.records.items()) if name.startswith(f"{prefix}.")]

    def result(self, name: str) -> Result | None:
        """What a case measured; None where it failed or was not run."""
        record = self.records.get(name)
        return record.result if record else None

    def why_not(self, name: str) -> str:
        """What stands in place of a case that has no result."""
        record = self.records.get(name)
        return f"failed: {record.failure}" if record else "not measured"

    def letter(self, name: str) -> str:
        """Where a case was measured: the letter of a call, machine and commit."""
        record = self.records.get(name)
        if record is None:
            return "-"
        key = (record.device, str(record.gpus), record.torch, record.commit, record.command)
        letter, date = self.calls.get(key, (ascii_lowercase[len(self.calls) % 26], ""))
        self.calls[key] = (letter, max(date, record.date[:10]))
        return letter

    def table(self) -> str:
        """The calls by letter."""
        rows = [
            [letter, machine_of(int(gpus), device), torch, commit, date, f"`{command}`"]
            for (device, gpus, torch, commit, command), (letter, date) in self.calls.items()
        ]
        return table(("", "machine", "torch", "commit", "date (UTC)", "command"), rows)


def machine_of(gpus: int, device: str) -> str:
    """A machine in words."""
    return f"{gpus} x {device}" if gpus else device


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def section(title: str, *parts: str) -> str:
    """A section of paragraphs and tables; nothing where all of them are empty."""
    kept = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *kept]) if kept else ""


def mfu(row: Result) -> float:
    """Share of the data sheet's arithmetic that a step's matrix products and attention take."""
    return row["flops"] / (row["ms"] / 1000) / PEAK_FLOPS


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"


def mebibytes(count: float) -> str:
    """Bytes, in MiB."""
    return f"{count / 2**20:,.0f} MiB"
