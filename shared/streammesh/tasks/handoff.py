"""Hands a batch of events over to queues, exactly once, in one round trip: the caller of `handoff.lua`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import orjson

from streammesh import lua, notifications
from streammesh import names as words
from streammesh.events.envelope import Event
from streammesh.events.publisher import ms
from streammesh.keys import PRIORITY, Keys
from streammesh.lua.cancels import CancelMark
from streammesh.lua.signature import quick
from streammesh.lua.tasks import (
    HandoffDelivery,
    HandoffEntry,
    HandoffKind,
    HandoffScript,
    HandoffSubscription,
)
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Delivery, Subscription
from streammesh.tasks.cancel_marks import cancel_marks
from streammesh.tasks.settlement import kept

_delivery, _entry = quick(HandoffDelivery), quick(HandoffEntry)


class Encoded(NamedTuple):
    """One delivery, ready to be queued: the queue's key and the two fields of its entry, `h` cut where the task
    id stands, since the rest of it is the same for all of a subscription."""

    delivery: Delivery
    queue: str
    around_id: tuple[bytes, ...]
    body: bytes
    priority: int = PRIORITY  # of the queue's stream

    @property
    def header(self) -> bytes:
        """`h` as it will be queued."""
        return self.delivery.task_id.encode().join(self.around_id)


class Handover(NamedTuple):
    """One stream entry and what it becomes; `wanted` counts its deliveries in all services."""

    entry: str
    event: Event
    wanted: int | None
    deliveries: Sequence[Encoded]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What one call did, and afterwards the longest of the streams it queued into, and of its paused subscriptions.

    Lengths are None where nothing was put there. `stale`: it did nothing, the batch was planned by manifests
    that have changed since. `full`: it did nothing, Redis has no room for more tasks. `routed`: the router serves
    the service, from now on or already. `early`: events before these are in another lane's hands, and what is behind
    them is to be handed over by the same call once more.
    """

    tasks: int = 0
    skipped: int = 0
    queued: int | None = None
    held: int | None = None
    stale: bool = False
    full: bool = False
    routed: bool = False
    early: bool = False

    @classmethod
    def of_all(cls, parts: Sequence[HandedOver]) -> HandedOver:
        """What several calls did for one batch."""
        return cls(
            sum(one.tasks for one in parts),
            sum(one.skipped for one in parts),
            max((one.queued for one in parts if one.queued is not None), default=None),
            max((one.held for one in parts if one.held is not None), default=None),
            stale=any(one.stale for one in parts),
            routed=any(one.routed for one in parts),
        )


def expires_ms(event: Event, published_ms: int, seconds: float | None) -> int | None:
    """After when a delivery is not worth starting: the event's own expiry or the subscription's, the earlier one."""
    own = event.expires_at_ms
    ours = None if seconds is None else published_ms + round(seconds * 1000)
    return min(own, ours) if own is not None and ours is not None else own if ours is None else ours


class Described(NamedTuple):
    """A batch as the scripts take it: what entries have in common is said once, and named by number."""

    subscriptions: list[HandoffSubscription]
    kinds: list[HandoffKind]
    entries: list[HandoffEntry]
    marks: list[CancelMark]


def describe(
    keys: Keys, settings: MeshSettings, batch: Sequence[Handover], paused: Container[str]
) -> Described:
    """Describe a batch: it has a few subscriptions and a few kinds of event."""
    said = _Said(keys, settings, paused)
    entries, marks = [], list[CancelMark]()
    event_row, task_row = keys.event(""), keys.task("")
    for entry, event, wanted, deliveries in batch:
        wants, queued = "", []
        for (subscription, task_id, key), queue, around_id, body, priority in deliveries:
            wants += said.subscription(subscription, queue, around_id, priority)
            expires: int | None = None
            if event.extensions or subscription.expires is not None:
                expires = expires_ms(event, int(entry.partition("-")[0]), subscription.expires)
            at = "" if expires is None else expires
            if subscription.cancel_on or subscription.cancels:
                marks += cancel_marks(keys, settings, subscription, task_id, event, entry)
            queued.append(_delivery(task=task_row + task_id, expires=at, b=body, key=key))
        entries.append(
            _entry(
                row=event_row + event.id,
                kind=said.kind(event, wanted, wants),
                position=entry,
                subject=event.subject or "",
                fragment=event.fragment,
                correlation=orjson.dumps(event.correlation_id),
                deliveries=queued,
            )
        )
    return Described(said.subscriptions, said.kinds, entries, marks)


def memory_mark(settings: MeshSettings) -> float:
    """Return the percentage of Redis's memory up to which tasks are handed over.

    Halfway from where publishing stops to the end: what was accepted is worked off, and what began has room.
    """
    return (settings.memory_mark + 100) / 2


def handoff_call(
    keys: Keys,
    settings: MeshSettings,
    domain: str,
    group: str,
    batch: Sequence[Handover],
    paused: Container[str] = (),
    version: str = "*",
    *,
    may_join: bool = False,
) -> lua.Call[HandedOver]:
    """`handoff.lua` for entries of one domain's stream that `group` was given.

    Deliveries to subscriptions in `paused` (task names) are set aside until they are resumed. `version`: of
    the manifests that the batch was planned by, "*" where it was planned without them. `may_join`: a router is
    there, and may serve the group's service from now on.
    """
    subscriptions, kinds, entries, marks = describe(keys, settings, batch, paused)

    def parse(answer: list[Any]) -> HandedOver:
        if answer == [b"stale"]:
            return HandedOver(stale=True)
        if answer == [b"full"]:
            return HandedOver(full=True)
        if answer == [b"routed"]:
            return HandedOver(skipped=len(entries), routed=True)
        early = answer[0] == b"early"
        tasks, skipped, queued, held, routed = map(int, answer[early:])
        return HandedOver(
            tasks,
            skipped,
            None if queued < 0 else queued,
            None if held < 0 else held,
            routed=bool(routed),
            early=early,
        )

    return HandoffScript(
        stream=keys.events(domain),
        notifications=keys.notifications(),
        counters=keys.counters(),
        holding=keys.holding(),
        version=keys.manifests_version(),
        memory_row=keys.memory(),
        routed=keys.routed(domain),
        group=group,
        kept=settings.notifications_bound,
        planned_by=version,
        event_prefix=len(keys.event("")),
        task_prefix=len(keys.task("")),
        mark=memory_mark(settings),
        may_join=may_join,
        most_queued=settings.max_queued,
        most_held=settings.max_held,
        subscriptions=subscriptions,
        kinds=kinds,
        entries=entries,
        marks=marks,
    ).call(parse)


class _Said:
    """What the entries of one call have in common, by the numbers that they name it by."""

    def __init__(self, keys: Keys, settings: MeshSettings, paused: Container[str]) -> None:
        self._keys, self._settings, self._paused = keys, settings, paused
        self._wants: dict[tuple[str, tuple[bytes, ...]], str] = {}  # -> ` <number>`
        self.subscriptions: list[HandoffSubscription] = []
        self.kinds: list[HandoffKind] = []
        self._numbers: dict[tuple[str, str, int | None, str], int] = {}  # of kinds

    def subscription(
        self, wants: Subscription, queue: str, around_id: tuple[bytes, ...], priority: int
    ) -> str:
        """The number of a subscription with one priority, after a space."""
        number = self._wants.get((wants.task, around_id))
        if number is None:
            is_held = (
                wants.flow is None and wants.task in self._paused
            )  # with a flow, its line is where they wait
            about: dict[str, Any] = {"name": wants.task, "service": wants.service}
            if wants.queue is not None:
                about["queue"] = wants.queue
            if priority != PRIORITY:
                about["priority"] = priority
            _, rest = notifications.task_fragment("", wants.task, wants.service, 0).split('"id":"', 1)
            one = HandoffSubscription(
                queue=self._keys.held(wants.task) if is_held else queue,
                open_tasks=self._keys.open_tasks(wants.service),
                name=wants.task,
                service=wants.service,
                state=words.TaskState.HELD if is_held else words.TaskState.QUEUED,
                meta=b',"task":%b}' % orjson.dumps(about),
                rest=rest,
                flow=b"" if wants.flow is None else wants.flow.limits,
                keep=b"" if wants.flow is None else self._keep(wants),
                parts=around_id,
            )
            self.subscriptions.append(one)
            number = self._wants[wants.task, around_id] = f" {len(self.subscriptions)}"
        return number

    def _keep(self, wants: Subscription) -> int:
        return ms(kept(None if wants.keep is None else timedelta(seconds=wants.keep), self._settings))

    def kind(self, event: Event, wanted: int | None, wants: str) -> int:
        """The number of a kind of event."""
        what = (event.source, event.type, wanted, wants)
        number = self._numbers.get(what)
        if number is None:
            one = HandoffKind(
                source=event.source,
                event_type=event.type,
                want="" if wanted is None else wanted,
                meta=b',"domain":%b}' % orjson.dumps(event.domain),
                subscriptions=wants,
            )
            self.kinds.append(one)
            number = self._numbers[what] = len(self.kinds)
        return number
