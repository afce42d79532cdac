"""Puts the trace of who publishes into events, where traces are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from streammesh import plain_json
from streammesh.events.encoded import Sealed
from streammesh.telemetry import spans


@contextmanager
def traced(events: Sequence[Sealed]) -> Iterator[Sequence[Sealed]]:
    """Within, each event has a span of its publishing, whose context it carries as `traceparent`.

    Its parent is the event's own `traceparent`, else that of the request. What is not sampled is left as it is.
    """
    if not spans.is_on():
        yield events
        return
    with ExitStack() as stack:
        yield [_with_trace(stack, event) for event in events]


def _with_trace(stack: ExitStack, event: Sealed) -> Sealed:
    raw = plain_json.loads(event.json)
    own = raw.get("traceparent")
    parent = own if isinstance(own, str) else spans.remote_parent.get()
    trace, _ = spans.ids_of(event.source, event.id)
    about = {
        "messaging.system": "streammesh",
        "messaging.operation.type": "send",
        "messaging.operation.name": "publish",
        "messaging.destination.name": event.type,
        "messaging.message.id": event.id,
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_type": event.type,
    }
    ids, _ = stack.enter_context(
        spans.span(f"publish {event.type}", "producer", parent=parent, trace=trace, attributes=about)
    )
    if not ids.is_sampled:
        return event
    raw["traceparent"] = ids.traceparent
    return event._replace(json=plain_json.dumps_plain(raw, finite=True))
