"""CSV and JSON in, rows out: strictly, within limits, and with words that say where the trouble is."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import orjson

DELIMITERS = ",;\t|"
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
LARGEST = 1e100  # squares of it still fit in a float, so a standard deviation can be had
MAX_COLUMNS = 500
MAX_GROUP_LENGTH = 300
BLANK = "(blank)"

_YEAR_OR_MONTH = re.compile(r"^\d{4}(-\d{2})?$")
_SLASHED = re.compile(r"^(\d{4})/(\d{1,2})/(\d{1,2})(?:$|[ T])")


class SourceError(ValueError):
    """The rows cannot be made a report of, now or ever; the text says why and where."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they were read. `lines[i]` is where row i was: a line of the CSV, or its place in the JSON list."""

    columns: tuple[str, ...]
    rows: list[Sequence[Any]]
    lines: list[int]
    unit: str = "line"


def read(body: bytes, kind: str, *, max_bytes: int, max_rows: int) -> Table:
    """Parse `body` as `kind` ("csv" or "json"). Raises SourceError."""
    if len(body) > max_bytes:
        raise SourceError(f"the source has {len(body):,} bytes; at most {max_bytes:,} are read")
    return read_csv(body, max_rows=max_rows) if kind == "csv" else read_json(body, max_rows=max_rows)


def read_csv(body: bytes, *, max_rows: int) -> Table:
    """CSV (RFC 4180) in UTF-8 whose first line names the columns; `,`, `;`, tab or `|` separate fields.

    Raises SourceError for anything else: a row that is longer or shorter than the header, a name twice,
    an open quote, a NUL byte, another encoding.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body[: error.start].count(b"\n") + 1
        raise SourceError(f"line {line} is not UTF-8; save the CSV as UTF-8") from None
    if "\x00" in text:
        raise SourceError("the CSV contains a NUL byte; is it really a CSV file?")
    if not text.strip():
        raise SourceError("the CSV is empty; its first line should name the columns")
    first = text.lstrip().partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: tuple[str, ...] | None = None
    rows: list[Sequence[Any]] = []
    lines: list[int] = []
    try:
        for fields in reader:
            if not fields:
                continue
            if columns is None:
                columns = _columns(fields)
                continue
            if len(fields) != len(columns):
                raise SourceError(
                    f"line {reader.line_num} has {len(fields)} fields, the header has {len(columns)}"
                )
            if len(rows) >= max_rows:
                raise SourceError(
                    f"the CSV has more than {max_rows:,} rows, which is the most a report takes"
                )
            rows.append(fields)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise SourceError(f"line {reader.line_num} is not valid CSV: {error}") from None
    if columns is None or not rows:
        raise SourceError("the CSV has a header but no rows")
    return Table(columns, rows, lines)


def read_json(body: bytes, *, max_rows: int) -> Table:
    """A JSON list of flat objects, as `rows_table` takes it. Raises SourceError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SourceError(f"the source is not valid JSON: {error}") from None
    if not isinstance(value, list):
        raise SourceError('the JSON should be a list of objects, such as [{"city": "Oslo", "sales": 3}]')
    return rows_table(value, max_rows=max_rows)


def rows_table(value: Iterable[Any], *, max_rows: int) -> Table:
    """Objects as a table; the columns are all names in the order they first appear, a missing one is null.

    Raises SourceError for a row that is no object, a value that is a list or an object, or too much of it.
    """
    columns: dict[str, int] = {}
    objects: list[dict[str, Any]] = []
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise SourceError(f"row {number} is not an object with column names")
        if number > max_rows:
            raise SourceError(f"there are more than {max_rows:,} rows, which is the most a report takes")
        for name, cell in row.items():
            if isinstance(cell, dict | list):
                raise SourceError(
                    f"row {number}, column {_quoted(name)}: should be one value, not a list or object"
                )
            columns.setdefault(name, len(columns))
        if len(columns) > MAX_COLUMNS:
            raise SourceError(f"there are more than {MAX_COLUMNS} columns")
        objects.append(row)
    if not objects:
        raise SourceError("there are no rows")
    names = _columns(list(columns))
    rows: list[Sequence[Any]] = [[row.get(name) for name in columns] for row in objects]
    return Table(names, rows, list(range(1, len(rows) + 1)), unit="row")


def pick(
    table: Table, group_by: str, measure: str | None, every: str | None
) -> list[tuple[str, float | None]]:
    """The two columns that the report is about: (group, number or None) per row.

    Without a measure the number is None. Dates are cut down to their `every`. Raises SourceError.
    """
    group_at = _position(table, group_by, "group_by")
    measure_at = _position(table, measure, "measure") if measure is not None else None
    picked: list[tuple[str, float | None]] = []
    for row, line in zip(table.rows, table.lines, strict=True):
        where = f"{table.unit} {line}"
        group = as_group(row[group_at])
        if len(group) > MAX_GROUP_LENGTH:
            raise SourceError(
                f"{where}, column {_quoted(group_by)}: longer than {MAX_GROUP_LENGTH} characters"
            )
        if every is not None:
            if group == BLANK:
                raise SourceError(f"{where}, column {_quoted(group_by)}: the date is missing")
            group = bucket(_date(group, f"{where}, column {_quoted(group_by)}"), every)
        number = None
        if measure_at is not None:
            number = as_number(row[measure_at], f"{where}, column {_quoted(measure or '')}")
        picked.append((group, number))
    if measure is not None and all(number is None for _, number in picked):
        raise SourceError(f"no row has a number in column {_quoted(measure)}")
    return picked


def as_group(value: Any) -> str:
    """The text that a cell is grouped under; an empty one is `(blank)`."""
    if value is None:
        return BLANK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value).strip() or BLANK


def as_number(value: Any, where: str) -> float | None:
    """A cell as a number, None where there is none. Raises SourceError for text that is no number."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return None
        try:
            number = float(text.replace("_", "x"))  # Python's 1_000 is not a number in a table
        except ValueError:
            raise SourceError(
                f"{where}: {_quoted(text)} is not a number; write it like 1234.5, without thousands separators"
            ) from None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise SourceError(f"{where}: {_quoted(str(value).lower())} is not a number")
    else:
        number = float(value)
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise SourceError(f"{where}: {_quoted(str(value))} is not a number that can be added up")
    return number


def bucket(day: date, every: str) -> str:
    """The key of the `every` that a day is in; keys of one kind sort by time: 2001-03-14, 2001-W11, 2001-03..."""
    if every == "day":
        return day.isoformat()
    if every == "week":
        year, week, _ = day.isocalendar()
        return f"{year:04}-W{week:02}"
    if every == "month":
        return f"{day.year:04}-{day.month:02}"
    if every == "quarter":
        return f"{day.year:04}-Q{(day.month + 2) // 3}"
    return f"{day.year:04}"


def _date(text: str, where: str) -> date:
    if slashed := _SLASHED.match(text):
        text = f"{slashed[1]}-{int(slashed[2]):02}-{int(slashed[3]):02}"
    elif _YEAR_OR_MONTH.match(text):
        text = f"{text}-01-01"[:10]
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise SourceError(f"{where}: {_quoted(text)} is not a date; write it like 2026-11-22") from None


def _columns(names: list[str]) -> tuple[str, ...]:
    cleaned = [name.strip() for name in names]
    if len(cleaned) > MAX_COLUMNS:
        raise SourceError(f"there are more than {MAX_COLUMNS} columns")
    if "" in cleaned:
        raise SourceError(f"column {cleaned.index('') + 1} has no name in the header")
    for name in cleaned:
        if cleaned.count(name) > 1:
            raise SourceError(f"the column {_quoted(name)} is there twice")
    return tuple(cleaned)


def _position(table: Table, column: str, field: str) -> int:
    try:
        return table.columns.index(column.strip())
    except ValueError:
        shown = ", ".join(_quoted(name) for name in table.columns[:20])
        more = "" if len(table.columns) <= 20 else f" and {len(table.columns) - 20} more"
        raise SourceError(f"{field}: there is no column {_quoted(column)}; there are {shown}{more}") from None


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
