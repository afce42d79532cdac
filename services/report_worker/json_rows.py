"""JSON in, the cells of two columns out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import orjson

from services.report_worker.source_table import (
    MAX_COLUMNS,
    Limits,
    SourceError,
    SourceTable,
    Wanted,
    plain,
    quoted,
)
from services.report_worker.text_encoding import encoding_of

# Possessive: a text of megabytes leaves nothing to go back to.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def read_json(body: bytes, wanted: Wanted, limits: Limits) -> SourceTable:
    """Read a JSON list of flat objects, as `rows_table` takes it. Raises SourceError.

    Objects and members are counted before any is made: three bytes of JSON become a hundred of memory.
    """
    encoding = encoding_of(body)
    if not encoding.name.startswith("utf-8"):
        if encoding.guessed and not encoding.name.startswith("utf-16"):
            raise SourceError("the JSON is not UTF-8; save it as UTF-8")
        body = body.decode(encoding.name).encode()
    body = body.removeprefix(b"\xef\xbb\xbf")
    if body.count(b",") + body.count(b"{") > min(limits.cells, limits.rows):
        _count(body, limits)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SourceError(f"the source is not valid JSON: {error}") from None
    if not isinstance(value, list):
        raise SourceError('the JSON should be a list of objects, such as [{"city": "Oslo", "sales": 3}]')
    return rows_table(value, wanted, limits)


def _count(body: bytes, limits: Limits) -> None:
    """Raises SourceError for JSON with more rows, columns or cells than are read, before any of them is made."""
    rows, members, commas, lists = (body.count(sign) for sign in (b"{", b":", b",", b"["))
    for found in _STRINGS.finditer(body):
        text = found[0]
        rows -= text.count(b"{")
        members -= text.count(b":")
        commas -= text.count(b",")
        lists -= text.count(b"[")
    limits.check_rows(rows)
    limits.check_cells(members)
    if members > MAX_COLUMNS * rows:
        raise SourceError(f"there are more than {MAX_COLUMNS:,} columns")
    if commas + lists > limits.cells + limits.rows + 1:  # a list within the list
        limits.check_cells(commas)


def rows_table(value: Iterable[Any], wanted: Wanted, limits: Limits) -> SourceTable:
    """Read objects as a table; the columns are all names that appear, and a missing one is null.

    Raises SourceError for a row that is no object, a value that is a list or an object, or too much of it.
    """
    table = SourceTable(unit="row")
    columns: dict[str, None] = {}
    cells = 0
    objects: list[dict[str, Any]] = []
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise SourceError(f"row {number} is not an object with column names")
        limits.check_rows(number, f"row {number}: ")
        cells += len(row)
        limits.check_cells(cells, f"row {number}: ")
        for name, cell in row.items():
            if isinstance(cell, dict | list):
                raise SourceError(
                    f"row {number}, column {quoted(name)}: should be one value, not a list or object"
                )
            columns.setdefault(name)
        if len(columns) > MAX_COLUMNS:
            raise SourceError(f"there are more than {MAX_COLUMNS:,} columns")
        objects.append(row)
    if not objects:
        raise SourceError("there are no rows")
    names = list(columns)
    group, measure = wanted.places([plain(name) for name in names])
    table.groups = [row.get(names[group]) for row in objects]
    if measure is not None:
        table.numbers = [row.get(names[measure]) for row in objects]
    table.lines = list(range(1, len(objects) + 1))
    return table
