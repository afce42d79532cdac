"""The span of an event's way through its stream: from where it was stored until it lies in the queues that want it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from streammesh.tasks.handoff import Handover
from streammesh.telemetry import spans


def make_spans(handovers: Sequence[Handover]) -> None:
    """One for each event that was handed over and is in a trace that is sampled; nothing where no traces are made."""
    if not spans.is_on():
        return
    for handover in handovers:
        event = handover.event
        parent = event.extensions.get("traceparent")
        trace, _ = spans.ids_of(event.source, event.id)
        if not handover.deliveries or not spans.is_sampled(parent if isinstance(parent, str) else "", trace):
            continue
        subscriptions = [one.delivery.subscription.task for one in handover.deliveries]
        about = {
            "messaging.system": "streammesh",
            "messaging.operation.type": "receive",
            "messaging.operation.name": "hand off",
            "messaging.destination.name": event.type,
            "messaging.message.id": event.id,
            "cloudevents.event_id": event.id,
            "cloudevents.event_source": event.source,
            "cloudevents.event_type": event.type,
            "streammesh.subscriptions": subscriptions[:20],
        }
        came = min(int(handover.entry.partition("-")[0]) * 1_000_000, time.time_ns())
        with spans.span(
            f"hand off {event.type}",
            "consumer",
            parent=parent if isinstance(parent, str) else "",
            trace=trace,
            attributes=about,
            start_ns=came,
        ):
            pass
