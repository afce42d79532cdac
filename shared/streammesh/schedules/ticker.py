"""Fires what is due: asks Redis, decides by the pure plan, and lets one script do it.

What if SIGKILL here? Before `tick.lua`: the schedule still stands at its due time, and the next Beat, or
another one, fires it. After it: the tick is published and the schedule has moved. There is no between.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import orjson
import redis
import structlog
from redis.exceptions import ResponseError
from structlog.typing import FilteringBoundLogger

from streammesh import lua
from streammesh.clock import rfc3339_ms
from streammesh.errors import InvalidSchedule
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.schedules import (
    Change,
    ScheduleEntry,
    Stored,
    due_ticks,
    from_json,
    parse_file,
    plan_sync,
    tick_event,
)
from streammesh.schedules.file_watch import FileWatch
from streammesh.schedules.store import (
    DueTicks,
    Standing,
    read_call,
    read_due_call,
    store_call,
    tick_call,
)
from streammesh.settings import MeshSettings

log = structlog.get_logger(__name__)

MAX_DUE = 500  # schedules fired before Redis is asked again
TICKS_AT_ONCE = 100  # of several schedules in one call; the server does nothing else for that long
READ_AT_ONCE = 500  # schedules
SYNC_TRIES = 5  # another Beat may be following the same file
BROKEN_AGAIN_MS = 60_000  # after which one that cannot be read is looked at again
LATE = timedelta(seconds=5)  # a later tick is worth a warning
EARLY_SECONDS = 0.001  # Redis counts whole milliseconds; waking within the one before would ask twice


class Ticker:
    """One Beat's work. `tick` never raises an error: whatever fails is logged and tried again."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        settings: MeshSettings,
        name: str,
        file: FileWatch | None = None,
    ) -> None:
        self._client, self._keys, self._settings, self.name = client, keys, settings, name
        self._file, self._wanted = file, None if file is None else _Wanted(file, settings.timezone)
        self._away = False
        self._broken: dict[str, bytes] = {}  # what was said about broken schedules, to say it once

    @property
    def away(self) -> bool:
        """Whether Redis could not be asked the last time."""
        return self._away

    def tick(self, most_seconds: float) -> float:
        """Follow the file, fire what is due; answers after how many seconds to be called again."""
        began = time.monotonic()
        try:
            if self._wanted is not None and (entries := self._wanted.changed()) is not None:
                self._sync(entries)
                self._wanted.applied()
            upcoming = self._fire_due()
            if upcoming is None and self._wanted is not None:
                self._wanted.again()  # nothing is stored: there is nothing, or Redis has lost its data
        except Exception as error:
            if not is_unavailable(error):
                log.exception("beat.failed")
                return most_seconds
            if not self._away:
                log.warning("redis.away", reason=str(error))
            self._away = True
            return min(0.5, most_seconds)
        if self._away:
            log.info("redis.back")
        self._away = False
        if upcoming is None:
            return most_seconds
        return min(max(0.0, upcoming - (time.monotonic() - began)), most_seconds)

    def _fire_due(self) -> float | None:
        """Fire what is due; answers in how many seconds the next schedule is, None if there is none."""
        found = lua.run_sync(self._client, read_due_call(self._keys, self.name, MAX_DUE))
        times = [] if found.next_ms is None else [found.next_ms]
        planned = [due for one in found.due if (due := self._plan(one, found.now_ms)) is not None]
        for some in _portions(planned):
            self._fire(some, found.now_ms)
        times += [due.plan.next_ms for due in planned]
        if (
            found.unreadable
        ):  # there is room for so many only in one look: they may not stand before the good ones
            log.error("schedules.unreadable", count=len(found.unreadable))
            later = dict.fromkeys(found.unreadable, found.now_ms + BROKEN_AGAIN_MS)
            self._client.zadd(self._keys.schedules_due(), later, xx=True)
        if found.due and not planned:
            times = [ms for ms in times if ms > found.now_ms]  # nothing but broken ones: do not spin on them
        return (min(times) - found.now_ms) / 1000 + EARLY_SECONDS if times else None

    def _plan(self, standing: Standing, now_ms: int) -> DueTicks | None:
        """Return what one schedule is to do now, None when it cannot be said."""
        bound = log.bind(schedule=standing.name)
        if not standing.raw:
            gone = Change(standing.name, b"", b"", "none")
            lua.run_sync(self._client, store_call(self._keys, [gone]))
            bound.warning("schedule.missing")
            return None
        try:
            entry = from_json(standing.raw)
            plan = due_ticks(entry, standing.stands_at, now_ms)
            planned = DueTicks(standing, plan, tuple(tick_event(entry, due_ms) for due_ms in plan.ticks))
        except Exception as error:
            if self._broken.get(standing.name) != standing.raw:
                self._broken[standing.name] = standing.raw
                bound.error("schedule.broken", reason=str(error), kind=type(error).__name__)
                if self._wanted is not None and not _is_object(standing.raw):
                    self._wanted.again()  # no Beat of any version wrote that: what the file says is put back
            return None
        self._broken.pop(standing.name, None)
        return planned

    def _fire(self, due: Sequence[DueTicks], now_ms: int) -> None:
        """Fire some schedules in one call."""
        answers = lua.run_sync(self._client, tick_call(self._keys, self._settings, due))
        for one, said in zip(due, answers, strict=True):
            self._tell(one, said, now_ms)

    def _tell(self, one: DueTicks, answers: list[str], now_ms: int) -> None:
        bound, plan = log.bind(schedule=one.standing.name), one.plan
        if answers == ["moved"]:
            bound.debug("schedule.moved")  # by another Beat, or by a change
            return
        if plan.skipped:
            bound.warning(
                "schedule.skipped", since=rfc3339_ms(one.standing.stands_at), made_up_for=len(plan.ticks)
            )
        for due_ms, event, answer in zip(plan.ticks, one.events, answers, strict=True):
            if answer != "stored":
                _say_why_not(bound, event.id, answer, due_ms)
                continue
            late = now_ms - due_ms
            say = bound.warning if late > LATE / timedelta(milliseconds=1) else bound.info
            say("schedule.ticked", event_id=event.id, due_at=rfc3339_ms(due_ms), late_ms=late)

    def _read(self) -> tuple[int, dict[str, Stored]]:
        """All schedules, some at a time, so that nobody waits long for the server."""
        try:
            known = sorted(self._client.execute_command("HKEYS", self._keys.schedules()))
        except ResponseError as error:
            if not lua.is_wrong_type(error):
                raise
            known = []  # it is set aside by what follows
        if len(known) <= READ_AT_ONCE:
            return lua.run_sync(self._client, read_call(self._keys))
        now_ms = 0
        stored: dict[str, Stored] = {}
        for first in range(0, len(known), READ_AT_ONCE):
            now_ms, page = lua.run_sync(
                self._client, read_call(self._keys, known[first : first + READ_AT_ONCE])
            )
            stored |= page
        return now_ms, stored

    def _sync(self, entries: list[ScheduleEntry]) -> None:
        for _ in range(SYNC_TRIES):
            now_ms, stored = self._read()
            changes = plan_sync(stored, entries, now_ms)
            if not changes:
                return
            made = lua.run_sync(self._client, store_call(self._keys, changes))
            for change, done in zip(changes, made, strict=True):
                if done:
                    what = "added" if not change.expected else "changed" if change.entry else "removed"
                    log.info(f"schedule.{what}", schedule=change.name)
            if all(made):
                return
        log.warning("schedules.contended")


def _portions(due: Sequence[DueTicks]) -> Iterator[list[DueTicks]]:
    """Cut into what one call takes: one schedule at least, however many ticks it has to make up for."""
    some: list[DueTicks] = []
    ticks = 0
    for one in due:
        if some and ticks + len(one.plan.ticks) > TICKS_AT_ONCE:
            yield some
            some, ticks = [], 0
        some.append(one)
        ticks += max(1, len(one.plan.ticks))
    if some:
        yield some


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False


def _say_why_not(bound: FilteringBoundLogger, event_id: str, answer: str, due_ms: int) -> None:
    """A tick that was not stored: it was before, or somebody else's event has its identity."""
    about = {"event_id": event_id, "due_at": rfc3339_ms(due_ms)}
    if answer == "conflict":
        bound.error(
            "schedule.tick_conflict",
            reason="an event with its source and id but other content exists",
            **about,
        )
    else:
        bound.info("schedule.ticked_before", **about)


class _Wanted:
    """The schedules of a file, whenever it changed to something that can be read."""

    def __init__(self, file: FileWatch, timezone: str) -> None:
        self._file, self._timezone = file, timezone
        self._entries: list[ScheduleEntry] | None = None
        self._last: list[ScheduleEntry] | None = None

    def changed(self) -> list[ScheduleEntry] | None:
        """What the file says, until it is `applied`; None when there is nothing new."""
        try:
            text = self._file.changed()
            if text is not None:
                self._entries = self._last = parse_file(text, self._timezone)
        except (InvalidSchedule, OSError, UnicodeDecodeError) as error:
            log.error("schedules.file_refused", file=str(self._file.path), reason=str(error))
        return self._entries

    def applied(self) -> None:
        """Redis has them."""
        self._entries = None

    def again(self) -> None:
        """Redis may have lost them."""
        self._entries = self._last
