"""The mesh's own operations, summed up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.report_worker import operations_report
from services.report_worker.operations import (
    UNKNOWN_REASON,
    EventSeen,
    Operations,
    TaskSeen,
    latency,
    summarise_operations,
)

END = datetime(2026, 11, 22, tzinfo=UTC)
START = END - timedelta(hours=24)
PERIOD = (START, END)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def task(state: str = "succeeded", *, queued: float = 1, ran: float | None = 2, **more: object) -> TaskSeen:
    start, end = at(queued) + timedelta(seconds=1), None
    if ran is not None:
        end = start + timedelta(seconds=ran)
    fields = {"service": "email_worker", "name": "email_worker.send", "attempts": 1, **more}
    return TaskSeen(state=state, queued=at(queued), started=start if end else None, ended=end, **fields)  # type: ignore[arg-type]


def words(operations: Operations) -> str:
    document = operations_report.compose(
        operations,
        title="Daily",
        timezone="UTC",
        report_id="r",
        organisation="o",
        made="now",
        facts=[],
    )
    return str(document)


def test_tasks_are_counted_by_service_and_state() -> None:
    operations = summarise_operations(
        [task(), task(), task("failed"), task("queued", ran=None), task(service="report_worker")],
        [EventSeen("user.registered", at(1)), EventSeen("user.registered", at(2)), EventSeen("a.b", at(3))],
        PERIOD,
    )
    assert [(s.service, s.states) for s in operations.services] == [
        ("email_worker", {"succeeded": 2, "failed": 1, "queued": 1}),
        ("report_worker", {"succeeded": 1}),
    ]
    assert operations.event_types == [("user.registered", 2), ("a.b", 1)]
    assert (operations.tasks, operations.total("failed"), operations.events) == (5, 1, 3)


def test_what_lies_outside_the_period_is_left_out() -> None:
    late = task(queued=23.9999, ran=3600)
    early = task(queued=-1)
    operations = summarise_operations(
        [late, early, task(queued=-0.5, ran=3600)], [EventSeen("a.b", END), EventSeen("a.b", START)], PERIOD
    )
    assert operations.tasks == 1  # queued before, ended within
    assert operations.events == 1  # the first moment belongs to it, the last does not


def test_failures_are_grouped_by_task_and_first_line_of_the_reason() -> None:
    failures = [
        task("failed", reason="550 no such user\nTraceback ..."),
        task("failed", reason="550 no such user", queued=5),
        task("failed", reason=""),
        task("failed", reason="x" * 500, name="email_worker.other"),
    ]
    seen = summarise_operations(failures, [], PERIOD).failures
    assert (seen[0].reason, seen[0].count) == ("550 no such user", 2)
    assert seen[0].last == failures[1].ended
    assert {f.reason for f in seen[1:]} == {UNKNOWN_REASON, "x" * 159 + "…"}


def test_waiting_running_and_the_whole_are_told_apart() -> None:
    service = summarise_operations([task(ran=2), task(ran=4, attempts=3)], [], PERIOD).services[0]
    assert service.retried == 1
    assert service.waited is not None and (service.waited.count, service.waited.longest) == (1, 1.0)
    assert service.ran is not None and service.ran.longest == 4.0
    assert service.whole is not None and service.whole.longest == 5.0


def test_clocks_that_differ_make_no_negative_times() -> None:
    odd = TaskSeen("s", "s.t", "succeeded", 1, at(2), at(1), at(1))
    service = summarise_operations([odd], [], PERIOD).services[0]
    assert service.waited is not None and service.waited.longest == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_percentiles_are_values_that_were_measured_and_in_order(values: list[float]) -> None:
    found = latency(values)
    assert found is not None
    assert {found.p50, found.p95, found.p99, found.longest} <= set(values)
    assert found.p50 <= found.p95 <= found.p99 <= found.longest == max(values)
    assert sum(value <= found.p50 for value in values) >= len(values) / 2


def test_a_hundred_values_have_the_percentiles_that_everyone_expects() -> None:
    found = latency([float(n) for n in range(1, 101)])
    assert found is not None and (found.p50, found.p95, found.p99) == (50.0, 95.0, 99.0)


@pytest.mark.parametrize(
    ("period", "timezone", "slots", "step"),
    [
        (PERIOD, "UTC", 24, "hour"),
        (PERIOD, "Asia/Kolkata", 25, "hour"),  # half an hour off: the first and the last hour are halves
        ((START - timedelta(days=6), END), "UTC", 7, "day"),
        # Berlin's 25-hour day
        (
            (datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 23, tzinfo=UTC)),
            "Europe/Berlin",
            25,
            "hour",
        ),
        ((datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)), "UTC", 31, "day"),
    ],
)
def test_every_hour_or_day_of_the_period_has_its_place(
    period: tuple[datetime, datetime], timezone: str, slots: int, step: str
) -> None:
    moments = [period[0], period[1] - timedelta(microseconds=1)]
    operations = summarise_operations([], [EventSeen("a.b", m) for m in moments], period, timezone=timezone)
    assert operations.step == step
    assert len(operations.timeline) == slots
    assert operations.timeline[0][1] == operations.timeline[-1][1] == 1


def test_the_words_say_what_happened() -> None:
    text = words(
        summarise_operations(
            [task(), task("failed", reason="550 no such user"), task("queued", ran=None), task(attempts=2)],
            [EventSeen("user.registered", at(1))],
            PERIOD,
        )
    )
    assert "1 event led to 4 tasks in 1 service." in text
    assert "2 of 3 ended tasks succeeded; 1 failed, most often in email_worker: “550 no such user”." in text
    assert "1 task needed more than one attempt." in text
    assert "1 task of the period had not ended when this report was made." in text


def test_a_period_in_which_nothing_happened_is_a_report_too() -> None:
    operations = summarise_operations([], [], PERIOD)
    assert operations.whole is None
    assert "Nothing happened in this period" in words(operations)
