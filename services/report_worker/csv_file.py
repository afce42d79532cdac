"""CSV as the world writes it in, the cells of two columns out; what cannot be read says its line and column.

Fields are read by Python's `csv` (RFC 4180, strict about quotes). Around it are the habits of the programs that
write CSV: byte order marks, `sep=;`, a first column without a name, separators at the ends of lines, rows of nothing
but separators, names that are there twice. Only the two columns that are asked for are kept.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from itertools import chain, islice

from services.report_worker.csv_dialect import SAMPLED, delimiter_of, said_delimiter
from services.report_worker.source_table import (
    MAX_COLUMNS,
    Limits,
    SourceError,
    SourceTable,
    Wanted,
    plain,
    quoted,
    shown_name,
)
from services.report_worker.text_encoding import encoding_of


def read_csv(
    body: bytes, wanted: Wanted, limits: Limits, *, encoding: str | None = None, delimiter: str | None = None
) -> SourceTable:
    """Read the two columns that are wanted. Raises SourceError, which names line and column.

    `encoding` and `delimiter` overrule what the bytes look like.
    """
    if not body.strip():
        raise SourceError("the CSV is empty; its first line should name the columns")
    found = encoding_of(body, encoding)
    table = SourceTable()
    if found.words:
        table.notes.append(found.words)
    lines = _Lines(io.TextIOWrapper(io.BytesIO(body), encoding=found.name, newline=""))
    if said := said_delimiter(lines.peek()):
        next(lines)
    delimiter = delimiter or said or delimiter_of(lines.first(SAMPLED, characters=65_536))
    return _read(lines, delimiter, wanted, limits, table)


class _Lines:
    """The lines of a text, counted; those of the record being read are remembered for what goes wrong in it."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._lines: Iterator[str] = iter(text)
        self.record: list[str] = []
        self.number = 0  # of the last line that was read

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if "\x00" in line:
            column = f", character {line.index(chr(0)) + 1}"
            raise SourceError(f"line {self.number}{column} is a NUL byte; is it really a CSV file?")
        self.record.append(line)
        return line

    def peek(self) -> str:
        """Return the next line, which is read again; empty at the end."""
        return next(iter(self.first(1)), "")

    def first(self, count: int, characters: int = sys.maxsize) -> list[str]:
        """Return the next lines, which are read again: at most `count`, and no more after so many characters."""
        ahead: list[str] = []
        for line in islice(self._lines, count):
            ahead.append(line)
            characters -= len(line)
            if characters < 0:
                break
        self._lines = chain(ahead, self._lines)
        return ahead

    def begin_record(self) -> int:
        """Forget the last record; return the line that the next one starts in."""
        self.record.clear()
        return self.number + 1


def _read(lines: _Lines, delimiter: str, wanted: Wanted, limits: Limits, table: SourceTable) -> SourceTable:
    # A field may be as long as the source, whose bytes are bounded; the standard limit of 131,072 is for all of it.
    csv.field_size_limit(sys.maxsize)
    records = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    shape: _Columns | None = None
    header: list[str] | None = None
    cells = empty = 0
    start = 1
    try:
        while True:
            start = lines.begin_record()
            fields = next(records, None)
            if fields is None:
                break
            if not any(fields) or not any(map(str.strip, fields)):
                empty += len(fields) > 1 and shape is not None
                continue
            cells += len(fields)
            limits.check_cells(cells, f"line {start}: ")
            if header is None:
                header = fields
                continue
            if shape is None:
                shape = _Columns(header, fields, wanted)
            shape.check(fields, start)
            limits.check_rows(len(table) + 1, f"line {start}: ")
            at = shape.group
            table.groups.append(fields[at] if at < len(fields) else "")
            if shape.measure is not None:
                at = shape.measure
                table.numbers.append(fields[at] if at < len(fields) else "")
            table.lines.append(start)
    except csv.Error as error:
        raise SourceError(_trouble("".join(lines.record), start, delimiter, error)) from None
    if header is None:
        raise SourceError("the CSV is empty; its first line should name the columns")
    if shape is None:
        _Columns(header, header, wanted)  # a column that is not there is the better message
        raise SourceError(f"the CSV has a header but no rows after line {lines.number}")
    if empty:
        table.notes.append(f"{empty:,} {'row' if empty == 1 else 'rows'} without any value left out")
    return table


class _Columns:
    """Which fields a row has to have, and where the wanted ones are."""

    def __init__(self, header: list[str], first: list[str], wanted: Wanted) -> None:
        names = [plain(name) for name in header]
        while len(names) > 1 and not names[-1] and len(first) < len(names):
            names.pop()  # the header alone ends with a separator
        if len(first) == len(names) + 1 and first[-1].strip():
            names.insert(0, "")  # R writes no name above its row names
        if len(names) > MAX_COLUMNS:
            raise SourceError(f"the header has {len(names):,} columns, at most {MAX_COLUMNS:,} are read")
        self.names = names
        # Columns without a name at the end may be left out of a row.
        self.least = max((at for at, name in enumerate(names, 1) if name), default=len(names))
        self.group, self.measure = wanted.places(self.names)

    def check(self, fields: list[str], line: int) -> None:
        """Raises SourceError for a row with too few fields, or with more values than there are columns."""
        most = len(self.names)
        if len(fields) < self.least:
            missing = quoted(shown_name(self.names, len(fields)))
            raise SourceError(
                f"line {line} has {len(fields):,} fields, the header has {most:,}:"
                f" column {len(fields) + 1} ({missing}) is missing"
            )
        if len(fields) > most and any(field.strip() for field in fields[most:]):
            at = next(at for at, field in enumerate(fields[most:], most + 1) if field.strip())
            raise SourceError(
                f"line {line} has {len(fields):,} fields, the header has {most:,}:"
                f" column {at} is one too many ({quoted(fields[at - 1])})"
            )


def _trouble(record: str, line: int, delimiter: str, error: csv.Error) -> str:
    """Say in which column of a record the quotes go wrong."""
    apart = re.escape(delimiter)
    field = re.compile(rf' *"(?:[^"]|"")*"(?=[{apart}\r\n]|\Z)|(?! *")[^{apart}\r\n]*')
    at, column = 0, 1
    while found := field.match(record, at):
        if found.end() >= len(record) or record[found.end()] != delimiter:
            break
        at, column = found.end() + 1, column + 1
    rest = record[at:].lstrip(" ")
    closed = re.match(r'"(?:[^"]|"")*"', rest)
    if not rest.startswith('"'):
        return f"line {line}, column {column} is not valid CSV: {error}"
    if closed is None:
        return f"line {line}, column {column}: a quote is opened and never closed"
    line += record[:at].count("\n")
    shown = quoted("".join(rest[closed.end() :].splitlines()[:1]))
    return f'line {line}, column {column}: {shown} follows a closing quote; write a quote within quotes as ""'
