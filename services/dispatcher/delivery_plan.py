"""Decides what a batch of stream entries becomes: for one service, or for all that the router serves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field

from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.group_reader import Entry
from streammesh.subscriptions.manifest import Delivery, Routes, delivery, priority_of
from streammesh.tasks.handoff import Encoded, Handover

MOST_DELIVERIES = 400  # in one call: it holds the server up for a few milliseconds
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
        one = _planned(entry, routes, service, (service,), encode, most_bytes)
        if isinstance(one, Broken):
            plan.broken.append(one)
        else:
            plan.handovers.append(one)
    return plans


def plan_routing(
    entries: Iterable[Entry],
    routes: Routes,
    served: Container[str],
    encode: Encode,
    most_bytes: int = 1 << 26,
    most_deliveries: int = MOST_DELIVERIES,
) -> tuple[list[Handover], Broken | None]:
    """What entries of one domain become for all services that the router serves.

    It ends before a broken one, and where there are enough deliveries for one call.
    """
    handovers: list[Handover] = []
    deliveries = 0
    for entry in entries:
        if deliveries >= most_deliveries:
            break
        one = _planned(entry, routes, None, served, encode, most_bytes)
        if isinstance(one, Broken):
            return handovers, one
        handovers.append(one)
        deliveries += len(one.deliveries)
    return handovers, None


def _planned(
    entry: Entry,
    routes: Routes,
    given_to: str | None,
    services: Container[str],
    encode: Encode,
    most_bytes: int,
) -> Handover | Broken:
    """What one entry becomes for these services; `given_to`: whose group it was read for."""
    if entry.envelope is None:
        return Broken(entry, "the stream entry has no envelope in its field `e`")
    if len(entry.envelope) > most_bytes:
        size = f"{len(entry.envelope):,} bytes where at most {most_bytes:,} are allowed"
        return Broken(entry, f"the envelope is too large: {size}")
    try:
        event = envelope.from_json(entry.envelope)
    except InvalidEvent as error:
        return Broken(entry, f"the envelope is broken: {error}")
    try:
        wanting = routes.wanting_at(event, entry.position, given_to)
        deliveries = [
            encode(delivery(event, wants), entry.envelope, priority_of(event, wants))
            for wants in wanting
            if wants.service in services
        ]
        return Handover(entry.position, event, len(wanting), deliveries)
    except Exception as error:  # whatever it is about this event: the others are not held up by it
        return Broken(entry, f"the event cannot be handed over: {error!r}"[:500])
