"""When schedules are due: calendars, time zones, summer time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from streammesh.clock import from_ms, to_ms
from streammesh.schedules.cron import Cron, Every, parse_cron, period_before

BERLIN, NEW_YORK, TOKYO = "Europe/Berlin", "America/New_York", "Asia/Tokyo"


def at(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))


def due(expression: str, timezone: str, after: str, until: str) -> list[str]:
    """The due times between two moments, as that zone's clock shows them, with its offset."""
    times = takewhile(lambda ms: ms <= at(until), parse_cron(expression, timezone).after(at(after)))
    return [f"{from_ms(ms).astimezone(ZoneInfo(timezone)):%d %H:%M%z}" for ms in times]


# --- the hour that is skipped -----------------------------------------------------------------


def test_a_time_that_berlin_skips_in_spring_is_due_once_when_the_clock_has_jumped():
    days = due("30 2 * * *", BERLIN, "2026-03-28T00:00Z", "2026-03-30T12:00Z")

    assert days == ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]


def test_a_time_that_new_york_skips_in_spring_is_due_once_when_the_clock_has_jumped():
    days = due("30 2 * * *", NEW_YORK, "2026-03-07T00:00-05:00", "2026-03-09T12:00Z")

    assert days == ["07 02:30-0500", "08 03:00-0400", "09 02:30-0400"]


def test_several_times_that_fall_into_one_gap_are_due_once():
    assert due("0,15,30,45 2 * * *", BERLIN, "2026-03-29T00:00Z", "2026-03-29T12:00Z") == ["29 03:00+0200"]
    assert due("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00Z", "2026-03-29T12:00Z") == [
        "29 03:00+0200",
        "29 03:30+0200",
    ]


def test_an_expression_that_follows_the_clock_is_not_due_in_a_gap():
    assert due("*/30 * * * *", BERLIN, "2026-03-29T00:00Z", "2026-03-29T02:00Z") == [
        "29 01:30+0100",
        "29 03:00+0200",
        "29 03:30+0200",
        "29 04:00+0200",
    ]
    assert due("*/30 2 * * *", BERLIN, "2026-03-29T00:00Z", "2026-03-29T12:00Z") == []


# --- the hour that comes twice ----------------------------------------------------------------


def test_a_time_that_comes_twice_in_berlin_in_autumn_is_due_the_first_time_only():
    days = due("30 2 * * *", BERLIN, "2026-10-24T12:00Z", "2026-10-26T12:00Z")

    assert days == ["25 02:30+0200", "26 02:30+0100"]


def test_a_time_that_comes_twice_in_new_york_in_autumn_is_due_the_first_time_only():
    days = due("30 1 * * *", NEW_YORK, "2026-10-31T12:00Z", "2026-11-02T12:00Z")

    assert days == ["01 01:30-0400", "02 01:30-0500"]


def test_asked_in_the_repeated_hour_a_time_of_it_is_not_due_again():
    second_two_o_clock = "2026-10-25T02:10+01:00"

    assert due("30 2 * * *", BERLIN, second_two_o_clock, "2026-10-26T12:00Z") == ["26 02:30+0100"]


def test_an_expression_that_follows_the_clock_is_due_in_both_hours():
    assert due("0 * * * *", BERLIN, "2026-10-24T23:30Z", "2026-10-25T02:00Z") == [
        "25 02:00+0200",
        "25 02:00+0100",
        "25 03:00+0100",
    ]
    assert due("0 * * * *", NEW_YORK, "2026-11-01T04:30Z", "2026-11-01T07:00Z") == [
        "01 01:00-0400",
        "01 01:00-0500",
        "01 02:00-0500",
    ]


# --- no summer time ---------------------------------------------------------------------------


def test_tokyo_has_no_summer_time_so_nine_o_clock_is_midnight_utc_all_year():
    times = list(islice(parse_cron("0 9 * * *", TOKYO).after(at("2026-01-01T00:00Z")), 400))

    assert {(b - a) for a, b in pairwise(times)} == {86_400_000}
    assert from_ms(times[0]) == datetime(2026, 1, 2, tzinfo=UTC)


def test_the_shipped_kinds_of_schedule_are_due_when_they_say():
    after = at("2026-11-22T00:00Z")
    monday = next(parse_cron("0 0 * * MON", BERLIN).after(after))
    first = next(parse_cron("0 8 1 * *", NEW_YORK).after(after))

    assert from_ms(monday).isoformat() == "2026-11-22T23:00:00+00:00"
    assert from_ms(first).isoformat() == "2026-12-01T13:00:00+00:00"


def test_the_month_s_last_day_and_leap_days_are_found():
    assert due("0 0 L 2 *", "UTC", "2027-01-01T00:00Z", "2028-12-31T00:00Z") == [
        "28 00:00+0000",
        "29 00:00+0000",
    ]
    assert from_ms(next(parse_cron("0 0 29 2 *", BERLIN).after(at("2026-01-01T00:00Z")))).year == 2028


# --- against the clock itself -----------------------------------------------------------------

# Around changes of the clock: an hour, half an hour (Lord Howe), two (Troll), midnight (Havana), a day (Apia).
CHANGES = [
    (BERLIN, "2026-03-29T01:00Z"),
    (BERLIN, "2026-10-25T01:00Z"),
    (NEW_YORK, "2026-03-08T07:00Z"),
    (NEW_YORK, "2026-11-01T06:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("Antarctica/Troll", "2026-03-29T01:00Z"),
    ("Antarctica/Troll", "2026-10-25T01:00Z"),
    ("America/Havana", "2026-03-08T05:00Z"),
    ("America/Havana", "2026-11-01T05:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00Z"),
    (TOKYO, "2026-05-05T00:00Z"),
]
MINUTES = st.sampled_from(["*", "*/7", "*/30", "0", "15", "30", "0,45", "5-9"])
HOURS = st.sampled_from(["*", "*/2", "*/3", "0", "1", "2", "3", "0,1,2,3", "2-4", "23"])


def shown(zone: ZoneInfo, ms: int) -> datetime:
    return from_ms(ms).astimezone(zone).replace(tzinfo=None)


def fields(expression: str) -> tuple[set[int], set[int]]:
    """The minutes and hours of an expression, read without cronsim."""

    def values(text: str, top: int) -> set[int]:
        if text.startswith("*"):
            return set(range(0, top, int(text[2:] or 1)))
        if "-" in text:
            low, high = map(int, text.split("-"))
            return set(range(low, high + 1))
        return {int(part) for part in text.split(",")}

    minute, hour, *_ = expression.split()
    return values(minute, 60), values(hour, 24)


@given(change=st.sampled_from(CHANGES), minute=MINUTES, hour=HOURS, lead=st.integers(0, 30 * 60))
@example(change=("Australia/Lord_Howe", "2026-04-04T15:00Z"), minute="*", hour="2", lead=120)
@settings(max_examples=80, deadline=None)
def test_due_times_are_what_a_minute_by_minute_look_at_the_clock_finds(change, minute, hour, lead):
    timezone, moment = change
    zone, start = ZoneInfo(timezone), at(moment) - lead * 60_000
    end = at(moment) + 30 * 3_600_000
    minutes, hours = fields(f"{minute} {hour}")
    every_minute = range(start - start % 60_000 + 60_000, end + 1, 60_000)
    seen = [(ms, shown(zone, ms)) for ms in every_minute]
    cron = Cron(f"{minute} {hour} * * *", timezone)
    if cron.follows_the_clock:
        expected = [ms for ms, wall in seen if wall.minute in minutes and wall.hour in hours]
    else:
        # The first minute of a wall clock that has reached, for the first time, a time that is named.
        first: dict[datetime, int] = {}
        latest = datetime.min
        before = max(shown(zone, start - back * 60_000) for back in range(0, 26 * 60))
        for ms, wall in seen:
            if wall > max(latest, before):
                reached = max(latest, shown(zone, ms - 60_000))
                while reached < wall:
                    reached += timedelta(minutes=1)
                    first.setdefault(reached, ms)
                latest = wall
        expected = sorted({ms for wall, ms in first.items() if wall.minute in minutes and wall.hour in hours})

    found = list(takewhile(lambda ms: ms <= end, cron.after(start)))

    assert found == expected
    assert cron.newest(start, end) == (expected[-1] if expected else None)


@given(ms=st.integers(1_000, 86_400_000), after=st.integers(0, 2_000_000_000_000))
def test_intervals_are_due_at_multiples_whoever_asks_when(ms, after):
    first, second = islice(Every(ms).after(after), 2)

    assert 0 < first - after <= ms
    assert second - first == ms
    assert first % ms == 0
    assert Every(ms).newest(after, second + ms - 1) == second
    assert Every(ms).newest(after, first - 1) is None


def test_the_newest_due_time_after_years_away_is_found_at_once():
    cron = parse_cron("* * * * *", BERLIN)

    assert cron.newest(at("1990-01-01T00:00Z"), at("2026-11-22T10:00:30Z")) == at("2026-11-22T10:00Z")
    yearly = parse_cron("0 0 29 2 *", BERLIN)
    assert yearly.newest(at("1990-01-01T00:00Z"), at("2027-11-22T10:00Z")) == at("2024-02-28T23:00Z")


# --- periods ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "unit", "timezone", "start", "end"),
    [
        ("2026-11-22T00:00Z", "day", TOKYO, "2026-11-21T00:00:00+09:00", "2026-11-22T00:00:00+09:00"),
        ("2026-03-30T05:00Z", "day", BERLIN, "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("2026-11-23T00:00Z", "week", "UTC", "2026-11-16T00:00:00+00:00", "2026-11-23T00:00:00+00:00"),
        ("2026-11-01T07:00Z", "month", BERLIN, "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ("2026-01-01T07:00Z", "month", BERLIN, "2025-12-01T00:00:00+01:00", "2026-01-01T00:00:00+01:00"),
        (
            "2026-03-09T12:00Z",
            "day",
            "America/Havana",
            "2026-03-08T01:00:00-04:00",
            "2026-03-09T00:00:00-04:00",
        ),
    ],
)
def test_the_period_before_a_moment_is_whole_in_its_zone(moment, unit, timezone, start, end):
    found = period_before(at(moment), unit, timezone)

    assert [edge.isoformat() for edge in found] == [start, end]


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "0 24 * * *",
        "0 0 30 2 *",
        "0 0 * * FUNDAY",
        "1-60 * * * *",
        "*/0 * * * *",
    ],
)
def test_an_expression_that_is_wrong_or_never_due_is_refused(expression):
    with pytest.raises(ValueError, match=r"\w"):
        parse_cron(expression, "UTC")
