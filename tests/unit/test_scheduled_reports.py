"""The reports that the scheduler's file asks for are reports that the report worker makes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from streammesh.clock import from_ms, to_ms
from streammesh.schedules import next_due, parse_file, tick_event

from services.report_worker.requests import OperationsReportRequested
from services.scheduler.settings import SHIPPED

NOW = to_ms(datetime(2026, 11, 22, tzinfo=UTC))
REPORTS = [
    e
    for e in parse_file(SHIPPED.read_text("utf-8"), "Europe/Berlin")
    if e.event.type == "operations.report_requested"
]


@pytest.mark.parametrize("schedule", REPORTS, ids=lambda e: e.name)
def test_a_scheduled_report_is_understood_and_is_about_its_period(schedule):
    tick = tick_event(schedule, next_due(schedule, NOW))

    asked = OperationsReportRequested.model_validate(tick.data)

    start, end = asked.period.bounds(from_ms(NOW), asked.timezone)
    assert [start, end] == [datetime.fromisoformat(tick.data["period"][edge]) for edge in ("from", "to")]
    assert (asked.kind, asked.timezone) == ("operations", schedule.timezone)


def test_there_are_a_daily_a_weekly_and_a_monthly_report():
    assert [entry.period for entry in REPORTS] == ["day", "week", "month"]
