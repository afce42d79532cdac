"""Schedules: what they say and which of their ticks are due. Pure.

A tick is an event whose id is made of the schedule's name and its due time, so it is the same event
whoever publishes it. `file.py` reads them, `schedule_store.py` keeps them in Redis, and
`worker/beat.py` fires them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from itertools import chain, islice, takewhile
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from streammesh import names, plain_json
from streammesh.clock import from_ms, rfc3339_ms
from streammesh.errors import InvalidEvent, InvalidSchedule
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.schedules.cron import LONGEST_MS, SHORTEST_MS, Every, Rule, Unit, parse_cron, period_before
from streammesh.setting_kinds import Duration

SOURCE = "scheduler"  # of every tick; part of the tick's identity
MAX_TICKS = 100  # published in one call; more missed ones follow in the next
MAX_DATA_BYTES = 65_536
TICK_FIELDS = ("schedule", "due_at", "period")

# How late a tick may be published where the schedule does not say; None is without limit.
WINDOWS: dict[str, timedelta | None] = {
    "skip": timedelta(minutes=1),  # a Beat that restarts is on time
    "latest": None,
    "all": timedelta(days=1),
}


class EventTemplate(BaseModel):
    """The event that every tick of a schedule is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(description="Event type, such as report.requested.")
    data: dict[str, Any] = Field(
        default_factory=dict,
        description="The event's data; each tick adds `schedule`, `due_at` and, where asked, `period`.",
    )
    subject: str | None = Field(None, description="The event's subject; schedule/<name> if not given.")
    priority: int | None = Field(None, ge=0, le=9, description="0 (low) to 9 (high).")
    partitionkey: str | None = Field(
        None,
        min_length=1,
        description="In a mesh of several shards: the ticks are stored in the shard of it.",
    )


class ScheduleEntry(BaseModel):
    """One schedule. Exactly one of `cron` and `every` says when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    cron: str | None = Field(
        None, max_length=200, description="Minute, hour, day of month, month, day of week."
    )
    every: Duration | None = Field(None, description="An interval, counted from 1970-01-01T00:00Z.")
    timezone: str = Field("UTC", description="IANA time zone of `cron` and `period`.")
    event: EventTemplate
    period: Unit | None = Field(
        None,
        description="Each tick says the calendar day, week or month before it, as `period.from` and `.to`.",
    )
    misfire: Literal["skip", "latest", "all"] = Field(
        "latest", description="Which ticks are made up for that could not be published when due."
    )
    window: Duration | None = Field(None, description="How late a tick may be published.")
    enabled: bool = True
    origin: Literal["file", "api"] = "api"

    @field_serializer("every", "window")
    def _seconds(self, value: timedelta | None) -> float | None:
        return None if value is None else value.total_seconds()

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("should be an IANA time zone such as Europe/Berlin or Asia/Tokyo") from None
        return value

    @field_validator("window")
    @classmethod
    def _window(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value <= timedelta(0):
            raise ValueError("should be more than nothing")
        return value

    @model_validator(mode="after")
    def _checked(self) -> ScheduleEntry:
        if (self.cron is None) == (self.every is None):
            raise ValueError("give one of cron and every")
        if self.every is not None and not SHORTEST_MS <= self.every / timedelta(milliseconds=1) <= LONGEST_MS:
            raise ValueError("every should be between 1s and 366d")
        _ = self.rule
        if clash := [name for name in TICK_FIELDS if name in self.event.data]:
            raise ValueError(f"event.data.{clash[0]} is filled in by the tick; choose another name")
        try:
            if len(tick_event(self, 0).to_json()) > MAX_DATA_BYTES:
                raise ValueError(f"event.data is larger than {MAX_DATA_BYTES:,} bytes")
        except InvalidEvent as error:
            raise ValueError(f"event{error.errors[0].pointer} {error.errors[0].detail}") from None
        except TypeError as error:
            raise ValueError(f"event.data is not JSON: {error}") from None
        return self

    @property
    def rule(self) -> Rule:
        """When it is due."""
        if self.every is not None:
            return Every(round(self.every / timedelta(milliseconds=1)))
        return parse_cron(self.cron or "", self.timezone)

    @property
    def lateness(self) -> timedelta | None:
        """How late a tick may be published, None for any time."""
        return self.window or WINDOWS[self.misfire]

    def to_json(self) -> bytes:
        """As it is stored: equal entries give equal bytes."""
        return plain_json.dumps_plain(self.model_dump(exclude_none=True), sort_keys=True)

    def due_as(self, other: ScheduleEntry) -> bool:
        """Whether both are due at the same times, so that a position of one is one of the other."""
        return (self.enabled, self.rule) == (other.enabled, other.rule)


@dataclass(frozen=True, slots=True)
class TickPlan:
    """What to do with a schedule now: publish these due times, then stand at `next_ms`."""

    ticks: tuple[int, ...]
    next_ms: int
    skipped: bool = False  # whether due times are left out that nobody published


def parse_entry(raw: Mapping[str, Any]) -> ScheduleEntry:
    """One schedule from plain values. Raises InvalidSchedule with one line that says what to change."""
    try:
        return ScheduleEntry.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise InvalidSchedule(
            f"schedule {str(raw.get('name', ''))[:64]!r}: {where + ': ' if where else ''}{text}"
        ) from None


@lru_cache(maxsize=16_384)
def from_json(raw: bytes) -> ScheduleEntry:
    """A stored schedule. Raises InvalidSchedule when it is broken."""
    try:
        value = plain_json.loads(raw)
    except ValueError as error:
        raise InvalidSchedule(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidSchedule("not a JSON object")
    return parse_entry(value)


def next_due(entry: ScheduleEntry, after_ms: int) -> int:
    """The first due time after a moment."""
    return next(iter(entry.rule.after(after_ms)))


def due_ticks(entry: ScheduleEntry, stands_at: int, now: int, limit: int = MAX_TICKS) -> TickPlan:
    """Which ticks of a schedule that stands at a due time are published now, and where it stands then.

    `skip`: the newest, if it is no later than the window (a minute). `latest`: the newest, whatever the
    others are. `all`: each within the window (a day), oldest first, at most `limit` at a time; when
    there are more, the plan's next time is one of them and is not after `now`.
    """
    if stands_at > now:
        return TickPlan((), stands_at)
    rule, lateness = entry.rule, entry.lateness
    oldest = (
        stands_at if lateness is None else max(stands_at, now - round(lateness / timedelta(milliseconds=1)))
    )
    if entry.misfire != "all":
        newest = rule.newest(stands_at, now) or stands_at
        ticks: tuple[int, ...] = (newest,) if newest >= oldest else ()
        return TickPlan(ticks, next_due(entry, now), ticks != (stands_at,))
    first = (stands_at,) if stands_at >= oldest else ()
    missed = takewhile(lambda due: due <= now, rule.after(max(stands_at, oldest - 1)))
    found = tuple(islice(chain(first, missed), limit + 1))
    ticks, more = found[:limit], found[limit:]
    return TickPlan(ticks, more[0] if more else next_due(entry, now), ticks[:1] != (stands_at,))


def tick_event(entry: ScheduleEntry, due_ms: int) -> Event:
    """The event of one tick. The same for everybody, its time included: it is the due time."""
    data = {**entry.event.data, "schedule": entry.name, "due_at": rfc3339_ms(due_ms)}
    if entry.period:
        data.setdefault("timezone", entry.timezone)
        start, end = period_before(due_ms, entry.period, entry.timezone)
        data["period"] = {"from": start.isoformat(), "to": end.isoformat()}
    extensions: dict[str, str | int] = {}
    if entry.event.priority is not None:
        extensions["priority"] = entry.event.priority
    if entry.event.partitionkey is not None:
        extensions["partitionkey"] = entry.event.partitionkey
    return envelope.make(
        entry.event.type,
        data,
        source=SOURCE,
        id=names.tick_id(entry.name, due_ms),
        subject=entry.event.subject or f"schedule/{entry.name}",
        now=from_ms(due_ms),
        extensions=extensions,
    )
