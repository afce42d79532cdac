"""Paused subscriptions: after too many dead letters in a row, or because somebody said so.

The tasks of a paused subscription are set aside, in state `held`: those of new events as they are handed
over, those already queued as a worker is about to start them. The rest of the service goes on. When it
is resumed they are queued, as fast as there is room. `settle.lua` counts, and pauses.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
import redis.asyncio

from streammesh import lua, notifications
from streammesh.keys import Keys
from streammesh.lua.tasks import PauseSubscriptionScript, ReleaseScript
from streammesh.redisio.answers import there
from streammesh.settings import MeshSettings
from streammesh.tasks.records import read_task

PAGE = 200  # tasks queued in one round trip


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when (ms) a subscription is paused, and why; `failures` is 0 where a person paused it."""

    task: str
    since_ms: int
    reason: str
    failures: int = 0


def pause_call(
    keys: Keys, settings: MeshSettings, task: str, event_type: str, reason: str | None
) -> lua.Call[bool]:
    """Pause a subscription for `reason`, or resume it (None); answers whether it was not so already."""
    service = task.partition(".")[0]
    said: dict[str, Any] = {"subscription": task}
    why: dict[str, Any] | None = None
    if reason is not None:
        said |= {"failures": 0, "reason": reason}
        why = {"since": round(time.time() * 1000), "failures": 0, "reason": reason}
    body = f'"event":null,"task":null,"data":{orjson.dumps(said).decode()}'
    return PauseSubscriptionScript(
        paused=keys.paused(),
        failures=keys.failures(),
        notifications=keys.notifications(),
        name=task,
        why=orjson.dumps(why) if why else "",
        kept=settings.notifications_bound,
        changed=keys.manifests_changed(),
        body=body,
        service=service,
        event_type=event_type,
    ).call(bool)


async def read_paused(client: redis.asyncio.Redis, keys: Keys) -> dict[str, Pause]:
    """Every paused subscription, by the name of its task."""
    stored = await client.hgetall(keys.paused())
    found = {name.decode("utf-8", "replace"): raw for name, raw in sorted(stored.items())}
    return {name: _pause(name, raw) for name, raw in found.items()}


async def read_failures(client: redis.asyncio.Redis, keys: Keys) -> dict[str, int]:
    """Dead letters in a row, by the name of a subscription's task; what is no number there counts as none."""
    stored = await client.hgetall(keys.failures())
    return {
        name.decode("utf-8", "replace"): int(count)
        for name, count in stored.items()
        if count.isdigit() and len(count) < 15
    }


def _pause(task: str, raw: bytes) -> Pause:
    try:
        value = orjson.loads(raw)
        since, failures = int(value["since"]), int(value.get("failures", 0))
        if not (0 <= since < 10**14 and 0 <= failures < 10**14):
            raise ValueError("no moment")
        return Pause(task, since, str(value["reason"]), failures)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return Pause(task, 0, "not known")  # put there by hand, say: it is paused all the same


class HeldTasks:
    """The tasks that were set aside."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys, self._settings = client, keys, settings

    async def waiting(self) -> dict[str, int]:
        """How many tasks wait, by the subscription's task name, paused or resumed."""
        names = sorted(
            name.decode("utf-8", "replace") for name in await self._client.smembers(self._keys.holding())
        )
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.xlen(self._keys.held(name))
        lengths = await pipeline.execute(raise_on_error=False)
        return {name: there(length, 0) for name, length in zip(names, lengths, strict=True)}

    async def release(self, name: str) -> int:
        """Queue some of a resumed subscription's tasks, the oldest first, if there is room; answers how many."""
        service = name.partition(".")[0]
        pipeline = self._client.pipeline(transaction=False)
        for stream in self._keys.queue_streams(service):
            pipeline.xlen(stream)
        room = self._settings.max_queued - sum(
            there(n, 0) for n in await pipeline.execute(raise_on_error=False)
        )
        if room <= 0:
            return 0
        found = await self._client.xrange(self._keys.held(name), count=min(room, PAGE))
        pipeline = self._client.pipeline(transaction=False)
        for _, fields in found:
            pipeline.hgetall(self._keys.task(fields.get(b"k", b"").decode("utf-8", "replace")))
        rows = [there(row) for row in await pipeline.execute(raise_on_error=False)]
        calls = [
            self._call(name, position.decode(), fields.get(b"k", b"").decode("utf-8", "replace"), row)
            for (position, fields), row in zip(found, rows, strict=True)
        ]
        released = 0
        for answer in await lua.run_many(self._client, calls or [self._call(name, "", "", {})]):
            if isinstance(answer, Exception):
                raise answer
            released += answer
        return released

    def _call(self, name: str, position: str, task_id: str, row: dict[bytes, bytes]) -> lua.Call[int]:
        keys, service = self._keys, name.partition(".")[0]
        source = event_id = event_type = subject = body = ""
        queue = keys.queue(service)
        task = read_task(task_id, row)
        if task is not None:
            ref, queue = task.ref, keys.queue(task.place.queue, task.place.priority)
            source, event_id, event_type = ref.event.source, ref.event.id, ref.event.type
            subject = ref.event.subject or ""
            body = notifications.body(ref.fragment, task_id, ref.name, service, task.attempt, {})
        return ReleaseScript(
            held=keys.held(name),
            holding=keys.holding(),
            paused=keys.paused(),
            queue=queue,
            task_row=keys.task(task_id),
            event_row=keys.event(event_id),
            notifications=keys.notifications(),
            name=name,
            position=position,
            kept=self._settings.notifications_bound,
            body=body,
            source=source,
            event=event_id,
            event_type=event_type,
            subject=subject,
            service=service,
            task=task_id,
        ).call(int)
