"""The span of a notification's way from its place in the stream to those who follow it."""

from __future__ import annotations

import time
from typing import Any

import orjson
from streammesh.notifications import Notification
from streammesh.telemetry import spans


def make_span(note: Notification, followers: int) -> None:
    """One for a notification that was given to so many followers; nothing where no traces are made, or not its event's."""
    if not spans.is_on() or not note.event:
        return
    parent = str(_event_of(note).get("traceparent") or "")
    trace, _ = spans.ids_of(note.source, note.event)
    if not spans.is_sampled(parent, trace):
        return
    about = {
        "messaging.system": "streammesh",
        "messaging.operation.type": "send",
        "messaging.operation.name": "push",
        "messaging.destination.name": note.type,
        "messaging.message.id": note.id,
        "cloudevents.event_id": note.event,
        "cloudevents.event_source": note.source,
        "cloudevents.event_type": note.event_type,
        "streammesh.followers": followers,
    }
    if note.task:
        about["streammesh.task.id"] = note.task
    came = min(int(note.id.partition("-")[0]) * 1_000_000, time.time_ns())
    with spans.span(
        f"push {note.type}", "producer", parent=parent, trace=trace, attributes=about, start_ns=came
    ):
        pass


def _event_of(note: Notification) -> dict[str, Any]:
    about = orjson.loads(b"{%b}" % note.body).get("event")
    return about if isinstance(about, dict) else {}
