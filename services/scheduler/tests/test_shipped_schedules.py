"""The file of schedules that ships: what it says comes when it should."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from streammesh.clock import from_ms, to_ms
from streammesh.schedules import next_due, parse_file, tick_event

from services.scheduler.settings import SHIPPED, SchedulerSettings

SUNDAY = to_ms(datetime(2026, 11, 22, 12, tzinfo=UTC))
SCHEDULES = {entry.name: entry for entry in parse_file(SHIPPED.read_text("utf-8"), "Europe/Berlin")}


@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("health-check", "2026-11-22T12:00:30+00:00"),
        ("daily-operations-report", "2026-11-23T00:00:00+00:00"),  # 09:00 in Tokyo
        ("weekly-summary", "2026-11-22T23:00:00+00:00"),  # Monday 00:00 in the mesh's zone
        ("monthly-statement", "2026-12-01T07:00:00+00:00"),
    ],
)
def test_a_shipped_schedule_is_due_when_it_should_be(name, due):
    assert from_ms(next_due(SCHEDULES[name], SUNDAY)).isoformat() == due


def test_every_shipped_schedule_is_tried_above():
    assert len(SCHEDULES) == 4


def test_a_report_says_which_day_week_or_month_it_is_about():
    periods = {
        name: tick_event(SCHEDULES[name], next_due(SCHEDULES[name], SUNDAY)).data["period"]
        for name in ("daily-operations-report", "weekly-summary", "monthly-statement")
    }

    assert periods == {
        "daily-operations-report": {"from": "2026-11-22T00:00:00+09:00", "to": "2026-11-23T00:00:00+09:00"},
        "weekly-summary": {"from": "2026-11-16T00:00:00+01:00", "to": "2026-11-23T00:00:00+01:00"},
        "monthly-statement": {"from": "2026-11-01T00:00:00+01:00", "to": "2026-12-01T00:00:00+01:00"},
    }


def test_the_shipped_file_is_followed_unless_another_is_named(monkeypatch, tmp_path):
    assert SchedulerSettings(_env_file=None).schedules == SHIPPED
    monkeypatch.setenv("SCHEDULER_SCHEDULES_FILE", "")
    assert SchedulerSettings(_env_file=None).schedules == SHIPPED
    monkeypatch.setenv("SCHEDULER_SCHEDULES_FILE", str(tmp_path / "mine.toml"))
    assert SchedulerSettings(_env_file=None).schedules == tmp_path / "mine.toml"
