"""The handler that ends waits for events: each type that a service's handlers wait for is a subscription of its own.

So what is awaited arrives as every event does, exactly once in effect, and waits in the service's queue while its
workers are away. What it did is its result: the runs that it woke.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streammesh import plain_json
from streammesh.durable.calls import MOST_ARRIVED, AwaitedEvent, DurableCalls, Waiter
from streammesh.durable.records import RESULT_BYTES, match_digest
from streammesh.events.envelope import Event
from streammesh.lua import Call
from streammesh.subscriptions.declaration import never_matching
from streammesh.subscriptions.filters import value_at
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.context import Context

MOST_TOLD = 100  # runs that are named in a result
AtOnce = Callable[[Sequence[Call[Any]]], Awaitable[list[Any]]]


def wake_subscription(service: str, event_type: str, paths: Sequence[str], queue: str | None) -> Subscription:
    """The subscription that ends the waits of a service for events of a type, matched by these paths."""
    digest = hashlib.sha256(plain_json.dumps([event_type, sorted(paths)])).hexdigest()[:8]
    word = re.sub(r"[^a-z0-9]+", "_", event_type.lower()).strip("_")[:64]
    return Subscription(
        service=service,
        task=f"{service}.wake_{word}_{digest}",
        type=event_type,
        retries=1_000_000,  # it fails only where Redis does
        queue=queue,
    )


def wake_handler(
    service: str, event_type: str, paths: Sequence[str], calls: Callable[[], DurableCalls]
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """The handler of that subscription."""

    async def wake(event: Event, ctx: Context) -> dict[str, Any]:
        match = {path: value_at(event, path) for path in paths}
        if not all(isinstance(value, str | int | float | bool | None) for value in match.values()):
            return {
                "woke": 0
            }  # nothing stands at one of the paths, or no plain value: nobody can wait for it
        digest, value = match_digest(event_type, match), _kept(event)
        came = AwaitedEvent(service, digest, value, event.id, event.source)

        async def at_once(asked: Sequence[Call[Any]]) -> list[Any]:
            return list(await asyncio.gather(*map(ctx.run.ask, asked)))

        woken = await wake_waiting(at_once, calls(), came)
        return {"woke": len(woken), "tasks": woken[:MOST_TOLD]}

    return wake


async def wake_waiting(at_once: AtOnce, calls: DurableCalls, came: AwaitedEvent) -> list[str]:
    """Note that an event came, and wake the runs of this shard that wait for it; answers which. May be repeated.

    `at_once` makes calls and answers their results; it raises what one of them raised.
    """
    woken: list[str] = []
    number, members = MOST_ARRIVED, list[bytes]()
    while number == MOST_ARRIVED:
        before = members
        [[score, *members]] = await at_once([calls.arrive(came)])
        number = len(members)
        waiters = [one for one in map(Waiter.parse, members) if one]
        answers = await at_once(calls.wake(came, score, waiters)) if waiters else []
        woken += [one.task for one, was_woken in zip(waiters, answers, strict=True) if was_woken]
        if members == before and any(members):  # they cannot be woken, nor removed
            break
    return woken


def _kept(event: Event) -> bytes:
    """The event as runs are given it; of one that is too large to be recorded, all but its data."""
    raw = event.to_json()
    if len(raw) <= RESULT_BYTES:
        return raw
    return replace(event, data=None, extensions={**event.extensions, "dataleftout": True}).to_json()


def declared_waits(waits: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """What `waits=` says, each type with its paths. Raises TypeError for what cannot be."""
    if waits is None:
        return {}
    if not isinstance(waits, Mapping):
        raise TypeError(
            f"waits={waits!r:.80}: should be a dict of types and paths, {{'order.paid': 'data.order_id'}}"
        )
    found: dict[str, tuple[str, ...]] = {}
    for event_type, paths in waits.items():
        listed = (
            (paths,) if isinstance(paths, str) else tuple(paths) if isinstance(paths, list | tuple) else ()
        )
        if not listed or not all(isinstance(path, str) and path for path in listed):
            raise TypeError(
                f"waits[{event_type!r:.80}]: should be a path such as 'data.order_id', or a list of them"
            )
        for problem in never_matching(dict.fromkeys(listed), event_type):
            raise TypeError(f"waits[{event_type!r:.80}]{problem.removeprefix('where')}")
        found[event_type] = listed
    return found
