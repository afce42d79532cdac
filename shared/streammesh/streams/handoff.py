"""Hands a batch of events over to queues, exactly once, in one round trip: the caller of `handoff.lua`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from streammesh import lua, notifications
from streammesh import names as words
from streammesh.envelope import Event
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions import Delivery


@dataclass(frozen=True, slots=True)
class Encoded:
    """One delivery, ready to be queued: the queue's key and the two fields of its entry."""

    delivery: Delivery
    queue: str
    header: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Handover:
    """One stream entry and what it becomes; `wanted` counts its deliveries in all services."""

    entry: str
    event: Event
    wanted: int | None
    deliveries: Sequence[Encoded]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What one call did, and afterwards the length of the service's queue and of its longest paused subscription.

    Lengths are None where nothing was put there. `stale`: it did nothing, the batch was planned by manifests
    that have changed since.
    """

    tasks: int = 0
    skipped: int = 0
    queued: int | None = None
    held: int | None = None
    stale: bool = False


def expires_ms(event: Event, published_ms: int, seconds: float | None) -> int | None:
    """After when a delivery is not worth starting: the event's own expiry or the subscription's, the earlier one."""
    own = event.expires_at_ms
    ours = None if seconds is None else published_ms + round(seconds * 1000)
    return min(own, ours) if own is not None and ours is not None else own if ours is None else ours


def handoff_call(
    keys: Keys,
    settings: MeshSettings,
    domain: str,
    group: str,
    batch: Sequence[Handover],
    paused: Container[str] = (),
    version: str = "*",
) -> lua.Call[HandedOver]:
    """`handoff.lua` for entries of one domain's stream that `group` was given.

    Deliveries to subscriptions in `paused` (task names) are set aside until they are resumed. `version`: of
    the manifests that the batch was planned by, "*" where it was planned without them.
    """
    names = [keys.events(domain), keys.notifications(), keys.counters()]
    names += [keys.open_tasks(group), keys.holding(), keys.manifests_version()]
    args: list[lua.Arg] = [group, settings.notifications_kept, len(batch), version]
    for item in batch:
        event = item.event
        fragment = notifications.event_fragment(event)
        names.append(keys.event(event.id))
        args += [
            *(item.entry, event.source, event.id, event.type, event.subject or ""),
            *("" if item.wanted is None else item.wanted, fragment, len(item.deliveries)),
        ]
        published = int(item.entry.partition("-")[0])
        for encoded in item.deliveries:
            wants, task_id = encoded.delivery.subscription, encoded.delivery.task_id
            expires = expires_ms(event, published, wants.expires)
            is_held = wants.task in paused
            names += [keys.task(task_id), keys.held(wants.task) if is_held else encoded.queue]
            args += [
                *(task_id, wants.task, wants.service, _meta(item, encoded.delivery)),
                notifications.task_fragment(task_id, wants.task, wants.service, 0),
                *("" if expires is None else expires, encoded.header, encoded.body),
                words.HELD if is_held else words.QUEUED,
            ]

    def parse(answer: list[Any]) -> HandedOver:
        if answer == [b"stale"]:
            return HandedOver(stale=True)
        tasks, skipped, queued, held = map(int, answer)
        return HandedOver(tasks, skipped, None if queued < 0 else queued, None if held < 0 else held)

    return lua.Call(lua.script("handoff"), names, args, parse)


def _meta(item: Handover, delivery: Delivery) -> bytes:
    event = item.event
    return orjson.dumps(
        {
            "event": {
                "id": event.id,
                "type": event.type,
                "source": event.source,
                "subject": event.subject,
                "domain": event.domain,
                "entry": item.entry,
                "correlation": event.correlation_id,
            },
            "task": {"name": delivery.subscription.task, "service": delivery.subscription.service},
        }
    )
