"""The data sets that ship with this worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import orjson

from services.report_worker.source_table import SourceError

FOLDER = Path(__file__).parent / "datasets"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file of rows with its source and licence as a report prints them; `units` by column."""

    file: str
    source: str
    licence: str
    units: dict[str, str] = field(default_factory=dict)

    def read(self) -> bytes:
        """The file's bytes."""
        return (FOLDER / self.file).read_bytes()


def find(name: str) -> Dataset:
    """The data set called `name`. Raises SourceError with the names that there are."""
    known = orjson.loads((FOLDER / "catalogue.json").read_bytes())
    if name not in known:
        raise SourceError(f"there is no data set {name!r}; there are {', '.join(sorted(known))}")
    return Dataset(**known[name])
