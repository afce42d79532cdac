"""Schedules in a file that an operator edits: what it says, and what that changes. Pure."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from streammesh.errors import InvalidSchedule
from streammesh.schedules.entries import ScheduleEntry, from_json, next_due, parse_entry

Position = int | Literal["keep", "none"]  # a due time in ms; stay where it stands; stand nowhere


def parse_file(text: str, timezone: str) -> list[ScheduleEntry]:
    """The schedules of a TOML file, one table `[schedules.<name>]` each; `timezone` is for those that name none.

    Raises InvalidSchedule with one line that says what to change.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSchedule(f"not TOML: {error}") from None
    found = tables.pop("schedules", {})
    if tables or not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise InvalidSchedule("should hold tables called [schedules.<name>] and nothing else")
    for name, table in found.items():
        for taken in ("name", "origin"):
            if taken in table:
                raise InvalidSchedule(f"schedule {name!r}: {taken} is not set in the file")
    return [
        parse_entry({"timezone": timezone, **table, "name": name, "origin": "file"})
        for name, table in found.items()
    ]


@dataclass(frozen=True, slots=True)
class Stored:
    """A schedule as Redis has it: its bytes, and where it stands (None when it is not enabled)."""

    raw: bytes
    stands_at: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the stored schedules, to be made only if the entry is still `expected` (empty: is not there)."""

    name: str
    expected: bytes
    entry: bytes  # empty: remove it
    position: Position


def plan_change(entry: ScheduleEntry, stored: Stored | None, now: int) -> Change | None:
    """How to store an entry; None when it is stored just so.

    A schedule whose due times stay the same stays where it stands, so no tick is lost over a change of
    its data or of a process; one that is new, enabled again or due at other times begins after `now`.
    """
    raw = entry.to_json()
    placed = stored is not None and (stored.stands_at is not None) == entry.enabled
    if stored is not None and placed and stored.raw == raw:
        return None
    position: Position = next_due(entry, now) if entry.enabled else "none"
    if stored is not None and placed:
        try:
            if from_json(stored.raw).due_as(entry):
                position = "keep"
        except InvalidSchedule:
            pass
    return Change(entry.name, stored.raw if stored else b"", raw, position)


def plan_sync(stored: Mapping[str, Stored], wanted: Iterable[ScheduleEntry], now: int) -> list[Change]:
    """What makes the stored schedules follow a file: adds, changes, and removes those that left it.

    Schedules that did not come from a file are left alone, also where the file has the same name.
    """
    entries = {entry.name: entry for entry in wanted}
    changes = []
    for name, entry in entries.items():
        have = stored.get(name)
        if have is None or _origin(have.raw) != "api":
            changes.append(plan_change(entry, have, now))
    for name, have in stored.items():
        if name not in entries and _origin(have.raw) == "file":
            changes.append(Change(name, have.raw, b"", "none"))
    return [change for change in changes if change is not None]


def _origin(raw: bytes) -> str | None:
    try:
        return from_json(raw).origin
    except InvalidSchedule:
        return None
