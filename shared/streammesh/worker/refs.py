"""What a queue entry is about and where it lies."""

from __future__ import annotations

from typing import Any

from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.task import QueuePlace, TaskRef
from streammesh.transport import wire_json
from streammesh.transport.transport import parse_tag


def task_ref(task_id: str, subscription: Subscription, raw: Any) -> TaskRef:
    """Who a queue entry is about. An envelope that is broken still gets a name, so that it can be told."""
    try:
        event = envelope.from_checked(raw)
    except InvalidEvent:
        event = Event(id=task_id, source=subscription.service, type="event.broken", time="")
    return TaskRef(task_id, subscription.task, subscription.service, event)


def entry_ref(subscription: Subscription, task_id: str, body: bytes) -> TaskRef:
    """Who the body of a queue entry is about, as `task_ref` says it."""
    try:
        raw = wire_json.loads_event(body)[0][0]
    except (ValueError, LookupError, TypeError):
        raw = None
    return task_ref(task_id, subscription, raw)


def queue_place(tag: str | None, service: str) -> QueuePlace:
    """Where the queue entry of a request lies; without a stream's tag, nowhere."""
    if not tag:
        return QueuePlace(service)
    return QueuePlace(*parse_tag(tag))


def untyped_payload(message: Any) -> Any:
    """The arguments of a delivery's message: its event is what its JSON says, and holds none of Celery's typed values.

    Raises ValueError when they cannot be read.
    """
    parsed = getattr(message, "parsed", None)
    return wire_json.loads_event(message.body) if parsed is None else parsed
