"""Schedules: what they say, which ticks are due, what a changed file changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streammesh import names
from streammesh.clock import from_ms, to_ms
from streammesh.errors import InvalidSchedule
from streammesh.schedules import (
    Change,
    ScheduleEntry,
    Stored,
    due_ticks,
    from_json,
    next_due,
    parse_entry,
    parse_file,
    plan_change,
    plan_sync,
    tick_event,
)

NOON = to_ms(datetime(2026, 11, 22, 12, tzinfo=UTC))
HOUR, MINUTE = 3_600_000, 60_000


def entry(**changes: object) -> ScheduleEntry:
    return parse_entry(
        {"name": "hourly", "cron": "0 * * * *", "event": {"type": "report.requested"}, **changes}
    )


# --- misfire policies -------------------------------------------------------------------------


@pytest.mark.parametrize("misfire", ["skip", "latest", "all"])
def test_before_its_time_nothing_is_due(misfire):
    plan = due_ticks(entry(misfire=misfire), NOON, NOON - 1)

    assert (plan.ticks, plan.next_ms) == ((), NOON)


@pytest.mark.parametrize("misfire", ["skip", "latest", "all"])
def test_a_tick_on_time_is_due_once_and_the_next_one_is_an_hour_later(misfire):
    plan = due_ticks(entry(misfire=misfire), NOON, NOON + 5)

    assert (plan.ticks, plan.next_ms, plan.skipped) == ((NOON,), NOON + HOUR, False)


def test_skip_drops_what_is_later_than_a_minute():
    plan = due_ticks(entry(misfire="skip"), NOON, NOON + 61_000)

    assert (plan.ticks, plan.next_ms, plan.skipped) == ((), NOON + HOUR, True)


def test_skip_keeps_the_newest_tick_when_that_one_is_on_time():
    plan = due_ticks(entry(misfire="skip"), NOON, NOON + 5 * HOUR + 10)

    assert (plan.ticks, plan.next_ms, plan.skipped) == ((NOON + 5 * HOUR,), NOON + 6 * HOUR, True)


def test_latest_makes_up_for_a_long_absence_with_one_tick():
    plan = due_ticks(entry(misfire="latest"), NOON, NOON + 49 * HOUR + MINUTE)

    assert (plan.ticks, plan.next_ms) == ((NOON + 49 * HOUR,), NOON + 50 * HOUR)


def test_latest_makes_up_for_nothing_that_is_older_than_its_window():
    plan = due_ticks(entry(misfire="latest", window="30m"), NOON, NOON + HOUR - MINUTE)

    assert (plan.ticks, plan.next_ms, plan.skipped) == ((), NOON + HOUR, True)


def test_all_makes_up_for_each_tick_within_its_window_oldest_first():
    plan = due_ticks(entry(misfire="all", window="3h"), NOON, NOON + 5 * HOUR + MINUTE)

    assert plan.ticks == (NOON + 3 * HOUR, NOON + 4 * HOUR, NOON + 5 * HOUR)
    assert (plan.next_ms, plan.skipped) == (NOON + 6 * HOUR, True)


def test_all_in_portions_gives_the_same_ticks_as_at_once():
    every_second = entry(cron=None, every="1s", misfire="all")
    now, stands_at = NOON + 1_234_567, NOON
    found: list[Any] = []
    while stands_at <= now:
        plan = due_ticks(every_second, stands_at, now, limit=100)
        assert len(plan.ticks) <= 100
        assert not plan.skipped
        found += plan.ticks
        stands_at = plan.next_ms

    assert found == list(range(NOON, NOON + 1_235_000, 1_000))
    assert stands_at == NOON + 1_235_000


SCHEDULES = st.sampled_from(
    [
        {"cron": "*/5 * * * *"},
        {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
        {"cron": "0 0 1 * *", "timezone": "Asia/Tokyo"},
        {"every": "7s"},
        {"every": "36h"},
    ]
)


@given(
    when=SCHEDULES,
    misfire=st.sampled_from(["skip", "latest", "all"]),
    window=st.none() | st.integers(1, 90 * 86_400).map(lambda s: f"{s}s"),
    since=st.integers(0, 400 * 86_400_000),
    away=st.integers(0, 40 * 86_400_000),
    limit=st.integers(1, 50),
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_policy_ticks_are_due_times_in_order_and_the_schedule_moves_on(
    when, misfire, window, since, away, limit
):
    schedule = entry(**{"cron": None, **when, "misfire": misfire, "window": window})
    stands_at = next_due(schedule, NOON + since)
    now = stands_at + away

    plan = due_ticks(schedule, stands_at, now, limit)

    assert all(stands_at <= tick <= now for tick in plan.ticks)
    assert all(next_due(schedule, tick - 1) == tick for tick in plan.ticks)
    assert list(plan.ticks) == sorted(set(plan.ticks))
    assert plan.next_ms > max((stands_at, *plan.ticks))
    assert plan.next_ms > now or len(plan.ticks) == limit
    assert len(plan.ticks) <= (limit if misfire == "all" else 1)
    if schedule.lateness is not None:
        assert all(now - tick <= schedule.lateness / timedelta(milliseconds=1) for tick in plan.ticks)
    newest = schedule.rule.newest(stands_at - 1, now)
    late = schedule.lateness is not None and from_ms(now) - from_ms(newest) > schedule.lateness
    assert (newest in plan.ticks) != (late or plan.next_ms <= now)


# --- the event --------------------------------------------------------------------------------


def test_a_tick_is_the_same_event_whoever_makes_it_and_when():
    schedule = entry(
        timezone="Asia/Tokyo",
        period="day",
        event={"type": "report.requested", "data": {"kind": "operations"}, "priority": 2},
    )

    first, second = tick_event(schedule, NOON), tick_event(from_json(schedule.to_json()), NOON)

    assert first == second
    assert (first.id, first.source) == (names.tick_id("hourly", NOON), "scheduler")
    assert (first.time, first.subject, first.priority) == ("2026-11-22T12:00:00.000Z", "schedule/hourly", 2)
    assert first.data == {
        "kind": "operations",
        "timezone": "Asia/Tokyo",
        "schedule": "hourly",
        "due_at": "2026-11-22T12:00:00.000Z",
        "period": {"from": "2026-11-21T00:00:00+09:00", "to": "2026-11-22T00:00:00+09:00"},
    }


def test_ticks_of_different_times_or_schedules_are_different_events():
    ids = {tick_event(entry(name=name), ms).id for name in ("a", "b") for ms in (NOON, NOON + 1)}

    assert len(ids) == 4


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cron": None}, "give one of cron and every"),
        ({"every": "5m"}, "give one of cron and every"),
        ({"cron": "0 9 * *"}, "five fields"),
        ({"cron": "0 25 * * *"}, "Bad hour"),
        ({"cron": None, "every": "500ms"}, "between 1s and 366d"),
        ({"cron": None, "every": "soon"}, "every: should be a duration"),
        ({"timezone": "Berlin"}, "timezone: should be an IANA time zone"),
        ({"timezone": "../etc/passwd"}, "timezone: should be an IANA time zone"),
        ({"misfire": "never"}, "misfire: "),
        ({"window": "0s"}, "window: should be more than nothing"),
        ({"name": "Daily Report"}, "name: "),
        ({"event": {"type": "a\nb"}}, "event/type holds control characters"),
        ({"event": {"type": "a.b", "data": {"due_at": 1}}}, "event.data.due_at is filled in"),
        ({"event": {"type": "a.b", "data": {"text": "x" * 70_000}}}, "larger than"),
        ({"event": {"type": "a.b", "data": {"n": float("nan")}}}, "not JSON"),
        ({"event": {"type": "a.b", "subject": "a\nb"}}, "event/subject holds control characters"),
        ({"evry": "5m"}, "evry: Extra inputs"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused_with_what_to_change(changes, says):
    with pytest.raises(InvalidSchedule) as refused:
        entry(**changes)

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_stored_schedule_that_is_broken_is_refused():
    for raw in (b"", b"[]", b"{", b'{"name": "a"}'):
        with pytest.raises(InvalidSchedule):
            from_json(raw)


# --- the file ---------------------------------------------------------------------------------

FILE = """
[schedules.health]
every = "30s"
misfire = "skip"
event.type = "health.check.due"

[schedules.daily]
cron = "0 9 * * *"
timezone = "Asia/Tokyo"
period = "day"
event = {type = "report.requested", data = {kind = "operations"}}
"""


def test_a_file_holds_schedules_and_the_mesh_s_time_zone_is_the_default():
    health, daily = parse_file(FILE, "Europe/Berlin")

    assert (health.name, health.every, health.timezone) == ("health", timedelta(seconds=30), "Europe/Berlin")
    assert (daily.name, daily.cron, daily.timezone, daily.origin) == (
        "daily",
        "0 9 * * *",
        "Asia/Tokyo",
        "file",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[schedules", "not TOML"),
        ("[schedule.a]\ncron = '* * * * *'", "tables called"),
        ("schedules = 3", "tables called"),
        ("[schedules.a]\norigin = 'api'", "origin is not set in the file"),
        ("[schedules.a]\ncron = '* * * * *'", "schedule 'a': event: Field required"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(text, says):
    with pytest.raises(InvalidSchedule, match=says):
        parse_file(text, "UTC")


def stored(schedule: ScheduleEntry, stands_at: int | None = NOON) -> dict[str, Stored]:
    return {schedule.name: Stored(schedule.to_json(), stands_at)}


def test_a_new_schedule_stands_at_its_next_time():
    (change,) = plan_sync({}, [entry(origin="file")], NOON)

    assert change == Change("hourly", b"", entry(origin="file").to_json(), NOON + HOUR)


def test_an_unchanged_schedule_is_not_touched_however_late_it_is():
    assert plan_sync(stored(entry(origin="file"), NOON - 5 * HOUR), [entry(origin="file")], NOON) == []


def test_a_schedule_with_other_data_or_another_policy_stays_where_it_stands():
    changed = entry(origin="file", misfire="all", event={"type": "report.requested", "data": {"n": 1}})

    (change,) = plan_sync(stored(entry(origin="file"), NOON - 5 * HOUR), [changed], NOON)

    assert (change.entry, change.position) == (changed.to_json(), "keep")


@pytest.mark.parametrize(
    "when", [{"cron": "30 * * * *"}, {"timezone": "Asia/Kolkata"}, {"cron": None, "every": "30m"}]
)
def test_a_schedule_with_other_due_times_begins_anew(when):
    changed = entry(origin="file", **when)

    (change,) = plan_sync(stored(entry(origin="file"), NOON - 5 * HOUR), [changed], NOON)

    assert change.position == NOON + HOUR // 2


def test_a_schedule_that_is_switched_off_stands_nowhere_and_begins_anew_when_it_is_switched_on():
    on, off = entry(origin="file"), entry(origin="file", enabled=False)

    (switched_off,) = plan_sync(stored(on), [off], NOON)
    (switched_on,) = plan_sync(stored(off, None), [on], NOON)

    assert (switched_off.position, switched_on.position) == ("none", NOON + HOUR)
    assert plan_sync(stored(off, None), [off], NOON) == []


def test_a_schedule_whose_position_was_lost_gets_one():
    assert plan_change(entry(), Stored(entry().to_json(), None), NOON) == Change(
        "hourly", entry().to_json(), entry().to_json(), NOON + HOUR
    )


def test_what_left_the_file_is_removed_and_what_never_came_from_it_is_left_alone():
    have = {**stored(entry(origin="file")), **stored(entry(name="mine", origin="api"))}
    have["broken"] = Stored(b"{", NOON)

    changes = plan_sync(have, [entry(name="mine", origin="file", cron="5 * * * *")], NOON)

    assert changes == [Change("hourly", entry(origin="file").to_json(), b"", "none")]


def test_a_broken_stored_schedule_is_mended_by_the_file():
    (change,) = plan_sync({"hourly": Stored(b"{", NOON)}, [entry(origin="file")], NOON)

    assert (change.expected, change.position) == (b"{", NOON + HOUR)
