"""Rows cut into chunks, each chunk aggregated on its own, the parts merged: pure, and the same however it is cut.

Counts, sums, minima and maxima of merged parts are exactly those of the whole, whatever the chunks and the order,
because a sum is carried exactly (Shewchuk's partials, as in `math.fsum`). Only the squared deviations are floats
that are merged (Chan, Golub, LeVeque 1979), so a standard deviation agrees to about 12 digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from services.report_worker.cells import bucket


@dataclass(slots=True)
class Partial:
    """What is known of one group so far. `rows` counts all its rows, `count` those that have a number."""

    rows: int = 0
    count: int = 0
    sums: list[float] = field(default_factory=list)  # their exact sum is the sum
    minimum: float = math.inf
    maximum: float = -math.inf
    mean: float = 0.0
    m2: float = 0.0  # sum of squared differences from the mean

    def add(self, value: float | None) -> None:
        """Take in one row."""
        self.rows += 1
        if value is None:
            return
        self.count += 1
        self.minimum, self.maximum = min(self.minimum, value), max(self.maximum, value)
        delta = value - self.mean  # Welford 1962
        self.mean += delta / self.count
        self.m2 += delta * (value - self.mean)
        _grow(self.sums, value)

    def merge(self, other: Partial) -> None:
        """Take in all that another part knows."""
        self.rows += other.rows
        if not other.count:
            return
        count = self.count + other.count
        delta = other.mean - self.mean
        self.m2 += other.m2 + delta * delta * (self.count / count) * other.count
        self.mean += delta * (other.count / count)
        self.count = count
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        for value in other.sums:
            _grow(self.sums, value)

    def to_json(self) -> list[Any]:
        """A JSON list; `from_json` gives the same part back, to the last bit."""
        known = [self.minimum, self.maximum, self.mean, self.m2] if self.count else []
        return [self.rows, self.count, self.sums, *known]

    @staticmethod
    def from_json(value: Sequence[Any]) -> Partial:
        """The inverse of `to_json`."""
        rows, count, sums, *known = value
        return Partial(rows, count, list(sums), *known)


def _grow(sums: list[float], value: float) -> None:
    """Add `value` to a list of floats whose exact sum is kept, in place (Shewchuk 1997)."""
    kept = 0
    for other in sums:
        if abs(value) < abs(other):
            value, other = other, value
        high = value + other
        low = other - (high - value)
        if low:
            sums[kept] = low
            kept += 1
        value = high
    sums[kept:] = [value] if value or not kept else []


Groups = dict[str, Partial]


def split(rows: int, *, size: int, most: int) -> list[tuple[int, int]]:
    """Ranges (from, to) that cover `rows` rows: chunks of `size`, larger ones where it took more than `most`."""
    step = max(size, -(-rows // most))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def aggregate(rows: Iterable[Sequence[Any]]) -> Groups:
    """(group, number or None) rows as one part per group."""
    groups: Groups = {}
    for group, value in rows:
        if (partial := groups.get(group)) is None:
            partial = groups[group] = Partial()
        partial.add(value)
    return groups


def merged(parts: Iterable[Mapping[str, Partial]]) -> Groups:
    """All parts as one; what was given is left as it was."""
    whole: Groups = {}
    for part in parts:
        for group, partial in part.items():
            whole.setdefault(group, Partial()).merge(partial)
    return whole


@dataclass(frozen=True, slots=True)
class Row:
    """One group's line in the report. Numbers are None where the group has no row with a number."""

    group: str
    rows: int
    count: int
    sum: float | None = None
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    stddev: float | None = None

    def value(self, aggregate: str) -> float | None:
        """The number that this report is about: one of the fields; `count` counts rows."""
        number: float | None = self.rows if aggregate == "count" else getattr(self, aggregate)
        return number


def finish(group: str, partial: Partial) -> Row:
    """A part that got all its rows as the line of the report. `stddev` is that of a sample (n - 1)."""
    if not partial.count:
        return Row(group, partial.rows, 0)
    total = math.fsum(partial.sums)
    return Row(
        group,
        partial.rows,
        partial.count,
        sum=total,
        mean=total / partial.count,
        min=partial.minimum,
        max=partial.maximum,
        stddev=math.sqrt(max(partial.m2, 0.0) / (partial.count - 1)) if partial.count > 1 else None,
    )


def ranked(groups: Mapping[str, Partial], aggregate: str, every: str | None) -> list[Row]:
    """The lines of the report: by time where grouped by time, else the largest first; no value comes last."""
    rows = [finish(group, partial) for group, partial in groups.items()]
    if every is not None:
        return sorted(rows, key=lambda row: row.group)

    def order(row: Row) -> tuple[bool, float, str]:
        value = row.value(aggregate)
        return (value is None, -(value or 0.0), row.group.casefold())

    return sorted(rows, key=order)


def without_gaps(rows: Sequence[Row], every: str, *, most: int = 400) -> list[Row]:
    """Rows ordered by time with an empty one for each `every` that nothing happened in.

    Returned as they are where that made more than `most`.
    """
    if len(rows) < 2:
        return list(rows)
    by_key = {row.group: row for row in rows}
    keys: dict[str, None] = {}
    day, last = _first_day(rows[0].group, every), rows[-1].group
    while (key := bucket(day, every)) <= last:
        keys[key] = None
        if len(keys) > most:
            return list(rows)
        if day > date.max - timedelta(days=400):
            break
        day = _next_first_day(day, every)
    return [by_key.get(key) or Row(key, 0, 0) for key in keys]


def _first_day(key: str, every: str) -> date:
    if every == "week":
        return date.fromisocalendar(int(key[:4]), int(key[6:]), 1)
    if every == "quarter":
        return date(int(key[:4]), int(key[6:]) * 3 - 2, 1)
    return date.fromisoformat(f"{key}-01-01"[:10])


def _next_first_day(day: date, every: str) -> date:
    if every == "day":
        return day + timedelta(days=1)
    if every == "week":
        return day + timedelta(days=7)
    months = {"month": 1, "quarter": 3, "year": 12}[every]
    month = day.month - 1 + months
    return date(day.year + month // 12, month % 12 + 1, 1)
