"""Cells as groups and numbers: strictly, with words that say where the trouble is. Pure."""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from typing import Any, Literal

from services.report_worker.source_table import SourceError, SourceTable, Wanted, quoted

Decimal = Literal[".", ","]

# What pandas, R, SAS, Excel and people write where there is no value.
MISSING = frozenset(
    {"", "-", "--", "–", "—", ".", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "nil"}
)
LARGEST = 1e100  # squares of it still fit in a float, so a standard deviation can be had
MAX_GROUP_LENGTH = 300
BLANK = "(blank)"

_YEAR_OR_MONTH = re.compile(r"^\d{4}(-\d{2})?$")
_SLASHED = re.compile(r"^(\d{4})/(\d{1,2})/(\d{1,2})(?:$|[ T])")
_GROUPED = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d+)?")  # 1.234.567,89
_SIGNS = str.maketrans({"\u2212": "-"})  # the minus sign of typesetters


def pick(
    table: SourceTable, wanted: Wanted, every: str | None, decimal: Decimal = "."
) -> list[tuple[str, float | None]]:
    """Return (group, number or None) per row.

    Without a measure the number is None. Dates are cut down to their `every`. Raises SourceError.
    """
    picked: list[tuple[str, float | None]] = []
    in_group, in_measure = f"column {quoted(wanted.group_by)}", f"column {quoted(wanted.measure or '')}"
    for at, line in enumerate(table.lines):
        where = f"{table.unit} {line}"
        group = as_group(table.groups[at])
        if len(group) > MAX_GROUP_LENGTH:
            raise SourceError(f"{where}, {in_group}: longer than {MAX_GROUP_LENGTH} characters")
        if every is not None:
            if group == BLANK:
                raise SourceError(f"{where}, {in_group}: the date is missing")
            group = bucket(_date(group, f"{where}, {in_group}"), every)
        number = None
        if wanted.measure is not None:
            number = as_number(table.numbers[at], f"{where}, {in_measure}", decimal)
        picked.append((group, number))
    if wanted.measure is not None and all(number is None for _, number in picked):
        raise SourceError(f"no row has a number in {in_measure}")
    return picked


def as_group(value: Any) -> str:
    """Return the text that a cell is grouped under; an empty one is `(blank)`."""
    if value is None:
        return BLANK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value).strip() or BLANK


def as_number(value: Any, where: str, decimal: Decimal = ".") -> float | None:
    """Return a cell as a number, None where there is none. Raises SourceError for text that is no number."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return None
        number = _parsed(text, where, decimal)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise SourceError(f"{where}: {quoted(str(value).lower())} is not a number")
    else:
        try:
            number = float(value)
        except OverflowError:  # an integer of more than 308 digits
            number = math.inf
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise SourceError(f"{where}: {quoted(str(value))} is not a number that can be added up")
    return number


def _parsed(text: str, where: str, decimal: Decimal) -> float:
    plain = text.translate(_SIGNS)
    if decimal == ",":
        if "." in plain and not _GROUPED.fullmatch(plain):
            raise SourceError(
                f"{where}: {quoted(text)} is not a number; with decimal ',' write it like 1234,5"
            )
        plain = plain.replace(".", "").replace(",", ".")
    try:
        return float(plain.replace("_", "x"))  # Python's 1_000 is not a number in a table
    except ValueError:
        pass
    how = "1234,5" if decimal == "," else "1234.5"
    hint = ", or say decimal ','" if decimal == "." and re.fullmatch(r"[+-]?\d+,\d+", plain) else ""
    raise SourceError(
        f"{where}: {quoted(text)} is not a number; write it like {how}, without thousands separators{hint}"
    )


def bucket(day: date, every: str) -> str:
    """Return the key of the `every` a day is in; keys of one kind sort by time: 2001-03-14, 2001-W11, 2001-03..."""
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
        raise SourceError(f"{where}: {quoted(text)} is not a date; write it like 2026-11-22") from None
