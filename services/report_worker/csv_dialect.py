"""What separates the fields of a CSV, found by reading its first records with each separator in turn. Pure."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence

DELIMITERS = (",", ";", "\t", "|", " ")
SAMPLED = 200  # records that decide

_SAID = re.compile(r'"?sep=(?P<delimiter>[^"\r\n])"?[\r\n]*', re.IGNORECASE)
# A cell that is plainly one value: a number, a date or time, nothing.
_VALUE = re.compile(r"[+-]?[\d.,:/eE+% -]*\d[\d.,:/%TZ-]*|NA|null|nan|", re.IGNORECASE)


def said_delimiter(line: str) -> str | None:
    """Return the separator that the line `sep=;` of Excel says; None where it is no such line."""
    found = _SAID.fullmatch(line)
    return found["delimiter"] if found else None


def delimiter_of(lines: Sequence[str]) -> str:
    """Return what separates the fields of these first lines; a comma where there is one column."""
    scored = [(_score(lines, delimiter), -at) for at, delimiter in enumerate(DELIMITERS)]
    (score, _), at = max((each, at) for at, each in enumerate(scored))
    return DELIMITERS[at] if score > (0.0, 0.0) else ","


def _score(lines: Sequence[str], delimiter: str) -> tuple[float, float]:
    """(how alike the records are in their number of fields, how plain their cells are); (0, 0) for one column.

    Separators inside of quotes do not count, since the records are read as CSV.
    """
    records = [
        fields
        for fields in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        if any(cell.strip() for cell in fields)
    ]
    if not records:
        return 0.0, 0.0
    # The last one may be cut off by the sample's end.
    body = records[1:-1] or records[1:] or records
    (width, often), *_ = Counter(map(len, body)).most_common(1)
    header = len(records[0])
    if width < 2 or header < 2:
        return 0.0, 0.0
    alike = often / len(body)
    # One more or less is a column of row names, or a separator at the end.
    alike *= 1.0 if header == width else 0.9 if abs(header - width) == 1 else 0.2
    if delimiter == " ":
        alike *= 0.5  # words have spaces, too
    cells = [cell.strip() for fields in body for cell in fields]
    return round(alike, 2), sum(_VALUE.fullmatch(cell) is not None for cell in cells) / len(cells)
