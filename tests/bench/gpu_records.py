"""What the performance benchmark measured, as JSON: a file a part, which later calls on other machines add to."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Result = dict[str, Any]  # as a case's own script wrote it


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One case on one machine.

    Attributes:
        name: the part, a dot and the case, like steps.naive_524288.
        gpus: of the machine, whether used or not.
        date: in ISO form, UTC.
        seconds: the case took, its process's start and compilation included.
        result: what was measured; None where the case failed.
        failure: why, in a line; "" where it did not.
    """

    name: str
    device: str
    gpus: int
    torch: str
    commit: str
    date: str
    command: str
    seconds: float
    result: Result | None = None
    failure: str = ""

    @property
    def part(self) -> str:
        """The part it belongs to."""
        return self.name.partition(".")[0]


Records = Mapping[str, Record]


def read_records(folders: Iterable[Path]) -> dict[str, Record]:
    """All records of some folders by name; of one name the latest."""
    found: dict[str, Record] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        for record in (Record(**values) for values in json.loads(path.read_text(encoding="utf-8"))):
            if record.name not in found or found[record.name].date <= record.date:
                found[record.name] = record
    return found


def write_records(folder: Path, records: Records) -> None:
    """Write all records, a file a part, each so that a reader sees all of it or none."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in {record.part for record in records.values()}:
        values = [asdict(record) for _, record in sorted(records.items()) if record.part == part]
        temporary = folder / f"{part}.json.tmp"
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        temporary.replace(folder / f"{part}.json")
