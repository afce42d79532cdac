"""When a schedule is due: cron expressions and intervals, in a time zone, over summer-time changes. Pure.

A cron expression has five fields as in Debian's cron (minute, hour, day of month, month, day of week),
with `L`, `LW` and `MON#2` as cronsim reads them, and all that Celery's `crontab` takes (`cron_words.py`); cronsim walks the calendar, this module walks the clock.
Summer time as in Debian's cron(8): an expression that names its times (neither minute nor hour begins
with `*`) is due once a day whatever the clock does: a time that is skipped is due when the clock has
jumped, a time that comes twice is due the first time. An expression with a `*` there follows the clock:
what is skipped is not due, what comes twice is due twice.

All moments are whole milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from streammesh.schedules.cron_words import spelled_out

Unit = Literal["day", "week", "month"]

SHORTEST_MS, LONGEST_MS = 1_000, 366 * 86_400_000
_EPOCH = datetime(1970, 1, 1)  # of wall clocks, so without a zone
_STEP = 6 * 3600  # seconds; no zone changes its offset twice within so short a time
_LOOKBACKS_MS = tuple(hours * 3_600_000 for hours in (1, 24, 32 * 24, 400 * 24, 9 * 366 * 24))


@dataclass(frozen=True, slots=True)
class Every:
    """Due at every whole multiple of `ms` since the epoch, so that all Beats mean the same moments."""

    ms: int

    def after(self, moment_ms: int) -> Iterator[int]:
        """The due times after `moment_ms`, without end."""
        due = (moment_ms // self.ms + 1) * self.ms
        while True:
            yield due
            due += self.ms

    def newest(self, after_ms: int, until_ms: int) -> int | None:
        """The last due time after `after_ms` and not after `until_ms`, None if there is none."""
        due = until_ms // self.ms * self.ms
        return due if due > after_ms else None


@dataclass(frozen=True, slots=True)
class Cron:
    """Due when the clock of `timezone` shows what `expression` says. Made by `parse_cron`."""

    expression: str
    timezone: str

    @property
    def follows_the_clock(self) -> bool:
        """Whether it is due by what the clock shows rather than at times of the day; see above."""
        minute, hour, *_ = self.expression.split()
        return minute.startswith("*") or hour.startswith("*")

    def after(self, moment_ms: int) -> Iterator[int]:
        """The due times after `moment_ms`; ends only where the calendar does."""
        walk = self._by_the_clock if self.follows_the_clock else self._by_the_day
        return (second * 1000 for second in walk(moment_ms // 1000))

    def newest(self, after_ms: int, until_ms: int) -> int | None:
        """The last due time after `after_ms` and not after `until_ms`, None if there is none.

        Looks back in growing steps, so that a long absence costs no more than a short one.
        """
        for lookback in _LOOKBACKS_MS:
            start, newest = max(after_ms, until_ms - lookback), None
            for due in self.after(start):
                if due > until_ms:
                    break
                newest = due
            if newest is not None or start == after_ms:
                return newest
        return None

    def _by_the_day(self, start: int) -> Iterator[int]:
        zone = ZoneInfo(self.timezone)
        last = start
        for wall in CronSim(self.expression, wall_clock(zone, start)):
            moment = first_moment(zone, wall)
            if moment > last:  # a repeated hour, or several times that fell into one gap
                yield moment
                last = moment

    def _by_the_clock(self, start: int) -> Iterator[int]:
        zone = ZoneInfo(self.timezone)
        begin = wall_clock(zone, start)
        while True:  # once for each stretch of time with one offset
            shift = _offset(zone, start)
            for wall in CronSim(self.expression, begin):
                moment = _seconds(wall) - shift
                change = _change(zone, start, moment)
                if change is not None:
                    start = change
                    begin = wall_clock(zone, change) - timedelta(seconds=1)
                    break
                yield moment
                start = moment
            else:
                return


Rule = Cron | Every


def parse_cron(expression: str, timezone: str) -> Cron:
    """A cron expression, checked. Raises ValueError with what to change."""
    cron = Cron(spelled_out(expression), timezone)
    if len(cron.expression.split(" ")) != 5:
        raise ValueError(
            "should have five fields: minute, hour, day of month, month, day of week,"
            " such as '0 9 * * MON-FRI', or be @daily or the like; use `every` for seconds"
        )
    try:
        next(cron.after(0))
    except (CronSimError, AssertionError) as error:
        raise ValueError(f"{str(error) or 'cannot be read'} in {expression!r}") from None
    except StopIteration:
        raise ValueError(f"{expression!r} is never due") from None
    return cron


def period_before(moment_ms: int, unit: Unit, timezone: str) -> tuple[datetime, datetime]:
    """The last whole calendar day, week (from Monday) or month before a moment, in a time zone.

    Answers its first moment and the first moment after it, aware, with the zone's offsets.
    """
    zone = ZoneInfo(timezone)
    now = wall_clock(zone, moment_ms // 1000)
    today = datetime(now.year, now.month, now.day)
    if unit == "day":
        first, after = today - timedelta(days=1), today
    elif unit == "week":
        after = today - timedelta(days=today.weekday())
        first = after - timedelta(days=7)
    else:
        after = today.replace(day=1)
        first = (after - timedelta(days=1)).replace(day=1)
    start, end = (datetime.fromtimestamp(first_moment(zone, wall), zone) for wall in (first, after))
    return start, end


def wall_clock(zone: ZoneInfo, second: int) -> datetime:
    """What the zone's clock shows at a moment (seconds since the epoch), without a zone."""
    return _EPOCH + timedelta(seconds=second + _offset(zone, second))


def first_moment(zone: ZoneInfo, wall: datetime) -> int:
    """When the zone's clock first shows `wall` or, where it jumps over it, has jumped; in seconds since the epoch."""
    moment = int(wall.replace(tzinfo=zone, fold=0).timestamp())
    if wall_clock(zone, moment) == wall:
        return moment
    return _change(zone, moment - 25 * 3600, moment) or moment  # the longest jump was a day (Samoa, 2011)


def _seconds(wall: datetime) -> int:
    return (wall - _EPOCH) // timedelta(seconds=1)


@lru_cache(maxsize=4096)
def _offset(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _change(zone: ZoneInfo, start: int, end: int) -> int | None:
    """The first second after `start`, up to `end`, at which the zone has another offset than at `start`."""
    offset, low = _offset(zone, start), start
    while low < end:
        high = min((low // _STEP + 1) * _STEP, end)  # multiples, so that the cache is hit
        if _offset(zone, high) != offset:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
            return high
        low = high
    return None
