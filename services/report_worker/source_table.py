"""What is read of a source: the cells of the columns that a report is about, and where each was. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_BY_PLACE = re.compile(r"column ([1-9]\d{0,4})")
MAX_COLUMNS = 16_384  # as many as a spreadsheet has


class SourceError(ValueError):
    """The rows cannot be made a report of, now or ever; the text says why and where."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is read of one source. Cells are what memory and time go into, not bytes."""

    bytes: int
    rows: int
    cells: int

    def check_rows(self, rows: int, where: str = "") -> None:
        """Raises SourceError for more rows than a report takes."""
        if rows > self.rows:
            raise SourceError(
                f"{where}there are more than {self.rows:,} rows, which is the most a report takes"
            )

    def check_cells(self, cells: int, where: str = "") -> None:
        """Raises SourceError for more cells than a report reads."""
        if cells > self.cells:
            raise SourceError(
                f"{where}there are more than {self.cells:,} cells (rows times columns), which is the most a report"
                " reads; leave out columns that it does not need"
            )


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns that a report is about; there may be no `measure`."""

    group_by: str
    measure: str | None = None

    def places(self, columns: Sequence[str]) -> tuple[int, int | None]:
        """Return where the two are among the columns, whose names are `plain`. Raises SourceError."""
        group = position(columns, self.group_by, "group_by")
        return group, None if self.measure is None else position(columns, self.measure, "measure")


@dataclass(slots=True)
class SourceTable:
    """The two columns as they were read, and `lines[i]`: the line of a CSV, or the place in the JSON list, of row i."""

    groups: list[Any] = field(default_factory=list)
    numbers: list[Any] = field(default_factory=list)  # empty where there is no measure
    lines: list[int] = field(default_factory=list)
    unit: str = "line"
    notes: list[str] = field(default_factory=list)  # what a reader should know of how it was read

    def __len__(self) -> int:
        return len(self.lines)


def position(columns: Sequence[str], wanted: str, field_name: str) -> int:
    """Return where a column is. `column 3` is the third one where none is called so.

    Raises SourceError where it is not, or is there twice.
    """
    wanted = plain(wanted)
    same = [at for at, name in enumerate(columns) if name == wanted] if wanted else []
    if len(same) == 1:
        return same[0]
    if same:
        places = " and ".join(str(at + 1) for at in same[:5])
        raise SourceError(
            f"{field_name}: there is more than one column {quoted(wanted)}: columns {places};"
            f" choose one by its place, such as 'column {same[0] + 1}'"
        )
    if (by_place := _BY_PLACE.fullmatch(wanted)) and int(by_place[1]) <= len(columns):
        return int(by_place[1]) - 1
    shown = ", ".join(quoted(shown_name(columns, at)) for at in range(min(20, len(columns))))
    more = "" if len(columns) <= 20 else f" and {len(columns) - 20:,} more"
    raise SourceError(f"{field_name}: there is no column {quoted(wanted)}; there are {shown}{more}")


def shown_name(columns: Sequence[str], at: int) -> str:
    """Return the name of the column at a place; `column 3` for the third one where it has none."""
    return columns[at] or f"column {at + 1}"


def plain(name: str) -> str:
    """Return a column's name without spaces around it; letters with accents in their one-character form."""
    return unicodedata.normalize("NFC", name.strip())


def quoted(text: str) -> str:
    """Return a text as messages show it: in quotes, at most forty characters."""
    return repr(text if len(text) <= 40 else text[:39] + "…")


def counted_lines(text: str, line: int, character: int) -> tuple[int, int]:
    """Return (line, character) after `text`, which began at the given ones; both count from 1."""
    ends = text.count("\n")
    return (line + ends, len(text) - text.rfind("\n")) if ends else (line, character + len(text))
