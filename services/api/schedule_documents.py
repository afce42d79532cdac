"""Schedules as the API tells them, and what a request says of one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, Field
from streammesh.clock import rfc3339_ms
from streammesh.errors import InvalidSchedule
from streammesh.schedules import ScheduleEntry, Stored, from_json, parse_entry

from services.api.problems import Problem
from services.api.schemas import Answer

TICKS_SHOWN = 5
NAME = r"^[a-z0-9][a-z0-9_.-]{0,63}$"
_SET_HERE = ("name", "origin")  # by the address and by who writes
EXAMPLE: dict[str, Any] = {
    "name": "daily-operations-report",
    "cron": "0 9 * * *",
    "every_seconds": None,
    "timezone": "Asia/Tokyo",
    "event": {
        "type": "operations.report_requested",
        "data": {"title": "Daily"},
        "subject": None,
        "priority": None,
        "partitionkey": None,
    },
    "period": "day",
    "misfire": "all",
    "window_seconds": 259_200,
    "enabled": True,
    "origin": "file",
    "next": ["2026-11-23T00:00:00.000Z", "2026-11-24T00:00:00.000Z"],
    "broken": None,
}


class TickedEvent(Answer):
    """The event that each tick is."""

    type: str
    data: dict[str, Any]
    subject: str | None
    priority: int | None
    partitionkey: str | None


class ScheduleState(Answer):
    """One schedule. `next`: its next ticks, empty where it is disabled. `broken`: why it is none, where it is not;
    then the other members are null."""

    name: str
    cron: str | None
    every_seconds: float | None
    timezone: str | None
    event: TickedEvent | None
    period: Literal["day", "week", "month"] | None
    misfire: Literal["skip", "latest", "all"] | None
    window_seconds: float | None = Field(description="How late a tick may be published; null for any time.")
    enabled: bool | None
    origin: Literal["file", "api"] | None = Field(
        description="`file`: it follows the scheduler's file. `api`: it was stored over this API."
    )
    next: list[str]
    broken: str | None


class ScheduleList(Answer):
    """Schedules, by name; `next` is the cursor of the next page, null at the end."""

    schedules: list[ScheduleState]
    next: str | None


class ScheduleRequest(BaseModel):
    """A whole schedule; its fields are those of the file. Exactly one of `cron` and `every` says when."""

    cron: str | None = Field(None, description="Minute, hour, day of month, month, day of week.")
    every: str | float | None = Field(None, description="An interval such as `30s` or `6h`, or seconds.")
    timezone: str = "UTC"
    event: dict[str, Any] = Field(
        description="`type`, and if wanted `data`, `subject`, `priority`, `partitionkey`."
    )
    period: str | None = None
    misfire: str = "latest"
    window: str | float | None = None
    enabled: bool = True


def document(name: str, stored: Stored) -> ScheduleState:
    """One schedule, as far as it can be read."""
    try:
        entry = from_json(stored.raw)
    except InvalidSchedule as error:
        nothing = dict.fromkeys(ScheduleState.model_fields)
        broken = {"name": name, "next": [], "broken": str(error)[:500]}
        return ScheduleState.model_validate({**nothing, **broken})
    lateness = entry.lateness
    return ScheduleState(
        name=name,
        cron=entry.cron,
        every_seconds=entry.every.total_seconds() if entry.every else None,
        timezone=entry.timezone,
        event=TickedEvent.model_validate(entry.event.model_dump()),
        period=entry.period,
        misfire=entry.misfire,
        window_seconds=lateness.total_seconds() if lateness else None,
        enabled=entry.enabled,
        origin=entry.origin,
        next=[rfc3339_ms(due) for due in _ticks(entry, stored.stands_at)],
        broken=None,
    )


def type_of(stored: Stored) -> str | None:
    """The type of its events; None where it cannot be read."""
    try:
        return from_json(stored.raw).event.type
    except InvalidSchedule:
        return None


def _ticks(entry: ScheduleEntry, stands_at: int | None) -> list[int]:
    if stands_at is None:
        return []
    return [stands_at, *islice(entry.rule.after(stands_at), TICKS_SHOWN - 1)]


def wanted(name: str, raw: Any) -> ScheduleEntry:
    """The schedule that a request says. Raises Problem (422)."""
    if not isinstance(raw, Mapping):
        raise _wrong("", "should be an object")
    for given in _SET_HERE:
        if given in raw:
            raise _wrong(f"/{given}", "is not set here")
    try:
        return parse_entry({**raw, "name": name, "origin": "api"})
    except InvalidSchedule as error:
        raise _wrong("", str(error)) from None


def _wrong(pointer: str, detail: str) -> Problem:
    return Problem("invalid-request", detail, [{"pointer": pointer, "detail": detail}])
