"""Decides what a batch of stream entries becomes for one service. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.events.group_reader import Entry
from streammesh.subscriptions.manifest import Delivery, Routes, delivery
from streammesh.tasks.handoff import Encoded, Handover

Encode = Callable[[Delivery, bytes, int], Encoded]


@dataclass(frozen=True, slots=True)
class Broken:
    """An entry that can never be handed over, and why."""

    entry: Entry
    reason: str


@dataclass(slots=True)
class DeliveryPlan:
    """What to hand over and what to park, of one domain."""

    handovers: list[Handover] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)


def plan_batch(
    entries: Iterable[Entry], routes: Routes, service: str, encode: Encode, most_bytes: int = 1 << 26
) -> dict[str, DeliveryPlan]:
    """A plan per domain for the entries that `service`'s lane was given, in their order.

    An event that this service does not want is handed over with no delivery: it is acknowledged. An
    entry whose envelope is gone (trimmed, deleted) is acknowledged in the same way, as broken.
    """
    plans: dict[str, DeliveryPlan] = {}
    for entry in entries:
        plan = plans.get(entry.domain)
        if plan is None:
            plan = plans[entry.domain] = DeliveryPlan()
        if entry.envelope is None:
            plan.broken.append(Broken(entry, "the stream entry has no envelope in its field `e`"))
            continue
        if len(entry.envelope) > most_bytes:
            size = f"{len(entry.envelope):,} bytes where at most {most_bytes:,} are allowed"
            plan.broken.append(Broken(entry, f"the envelope is too large: {size}"))
            continue
        try:
            event = envelope.from_json(entry.envelope)
        except InvalidEvent as error:
            plan.broken.append(Broken(entry, f"the envelope is broken: {error}"))
            continue
        try:
            plan.handovers.append(_handover(entry, entry.envelope, event, routes, service, encode))
        except Exception as error:  # whatever it is about this event: the others are not held up by it
            plan.broken.append(Broken(entry, f"the event cannot be handed over: {error!r}"[:500]))
    return plans


def _handover(
    entry: Entry, envelope: bytes, event: Event, routes: Routes, service: str, encode: Encode
) -> Handover:
    wanting = routes.wanting_at(event, entry.position, service)
    return Handover(
        entry=entry.position,
        event=event,
        wanted=len(wanting),
        deliveries=[
            encode(delivery(event, wants), envelope, event.priority)
            for wants in wanting
            if wants.service == service
        ],
    )
