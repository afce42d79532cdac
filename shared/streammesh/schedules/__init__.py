"""Schedules: when they are due, which ticks that makes, what an operator's file changes. Pure."""

from streammesh.schedules.entries import (
    EventTemplate,
    ScheduleEntry,
    TickPlan,
    due_ticks,
    from_json,
    next_due,
    parse_entry,
    tick_event,
)
from streammesh.schedules.file import Change, Stored, parse_file, plan_change, plan_sync

__all__ = [
    "Change",
    "EventTemplate",
    "ScheduleEntry",
    "Stored",
    "TickPlan",
    "due_ticks",
    "from_json",
    "next_due",
    "parse_entry",
    "parse_file",
    "plan_change",
    "plan_sync",
    "tick_event",
]
