"""What each subscription that wants an event, and has not run for it, waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import redis.asyncio

from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.events.envelope import Event
from streammesh.keys import PRIORITIES, Keys
from streammesh.lines.state import before_in_line, key_of
from streammesh.notifications import position_key
from streammesh.redisio.heartbeat import FRESH_MS
from streammesh.settings import MeshSettings
from streammesh.status.backlog import Counted, count
from streammesh.subscriptions.manifest import Delivery, plan
from streammesh.subscriptions.registry import Registered
from streammesh.tasks.pause import Pause, read_paused
from streammesh.tasks.records import EventRow, TaskRow

MOST_TOLD = 50  # subscriptions of one event
MOST_AHEAD = 1_000  # counted; beyond that it is "at least"
FULL = 0.9  # a lane waits from a full queue on until it has fallen to this part
NOT_RUN = frozenset((names.TaskState.PENDING, names.TaskState.QUEUED, names.TaskState.HELD))
_NONE = Counted(0, "", "", True)


class Why(StrEnum):
    """Why a subscription has not run."""

    PAUSED = "paused"
    RESUMED = "resumed"
    NO_DISPATCHER = "no-dispatcher"
    QUEUE_FULL = "queue-full"
    HELD_FULL = "held-full"
    NO_WORKER = "no-worker"
    IN_LINE = "in-line"
    CAME_LATER = "subscribed-later"
    LIMITED = "limited"


@dataclass(frozen=True, slots=True)
class NotRun:
    """One subscription that has not run. `ahead`: how many are before it in the line that it waits in."""

    subscription: str
    task_id: str
    why: Why
    detail: str
    ahead: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read for one subscription."""

    task: TaskRow | None
    pause: Pause | None
    dispatchers: int
    workers: int
    queued: int
    held: int
    came_later: bool
    ahead: Counted


def explain(wanted: Delivery, facts: Facts, settings: MeshSettings) -> NotRun:
    """Say what one subscription waits for. Pure."""
    subscription, task_id = wanted.subscription, wanted.task_id
    service = subscription.service

    def said(why: Why, detail: str, *, line: bool = False) -> NotRun:
        return NotRun(subscription.task, task_id, why, detail, facts.ahead.number if line else None)

    pause, behind = facts.pause, _behind(facts.ahead)
    if facts.task is not None and facts.task.state == names.TaskState.HELD:
        if pause is None:
            return said(Why.RESUMED, f"was paused; it is queued as there is room, behind {behind}", line=True)
        return said(Why.PAUSED, f"is paused since {rfc3339_ms(pause.since_ms)}: {pause.reason[:200]}")
    if facts.task is not None and facts.task.state == names.TaskState.PENDING:
        if pause is not None:
            return said(Why.PAUSED, f"is paused since {rfc3339_ms(pause.since_ms)}: {pause.reason[:200]}")
        key = key_of(facts.task.flow)
        return said(
            Why.LIMITED, f"waits in line for the key {key!r}, {facts.ahead.number} before it", line=True
        )
    if facts.task is not None:
        if not facts.workers:
            return said(Why.NO_WORKER, f"is queued, and no worker of {service} is alive")
        return said(Why.IN_LINE, f"is queued behind {behind} of {service}, running ones included", line=True)
    if facts.came_later:
        return said(Why.CAME_LATER, f"{service} did not subscribe to it when it was published")
    if not facts.dispatchers:
        return said(Why.NO_DISPATCHER, "waits to be handed over, and no dispatcher is alive")
    if facts.queued > settings.max_queued * FULL and facts.ahead.number:
        detail = f"waits in its lane: the queue of {service} is full ({facts.queued} tasks)"
        return said(Why.QUEUE_FULL, detail, line=True)
    if pause and facts.held > settings.max_held * FULL:
        return said(Why.HELD_FULL, f"waits in its lane: {facts.held} tasks of it are set aside", line=True)
    return said(Why.IN_LINE, f"waits to be handed over, behind {behind} of its stream", line=True)


def _behind(ahead: Counted) -> str:
    number = f"{ahead.number}" if ahead.exact else f"{ahead.number} or more"
    return "1 other" if number == "1" else f"{number} others"


class Waiting:
    """Finds what the subscriptions of one event wait for."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys, self._settings = client, keys, settings

    async def of_event(
        self, row: EventRow, event: Event | None, tasks: Sequence[TaskRow], registered: Registered
    ) -> list[NotRun]:
        """Each subscription that wants the event and has not run, with the reason; `MOST_TOLD` at most."""
        if event is None or row.completed or row.entry == "held":
            return []
        known = {task.id: task for task in tasks}
        gone = set(row.task_ids) - set(known)
        wanted = [
            one
            for one in plan(event, [s for m in registered.manifests for s in m.subscriptions])
            if one.task_id not in gone and (one.task_id not in known or known[one.task_id].state in NOT_RUN)
        ][:MOST_TOLD]
        if not wanted:
            return []
        paused = await read_paused(self._client, self._keys)
        roles = ["dispatcher", *dict.fromkeys(one.subscription.service for one in wanted)]
        queues = {manifest.service: manifest.queue_names for manifest in registered.manifests}
        alive, queued, held = await self._lengths(roles, wanted, queues)
        groups = await self._groups(row.domain)
        found = []
        for one in wanted:
            service, task = one.subscription.service, known.get(one.task_id)
            group = groups.get(service)
            joined = registered.joined.get((row.domain, service))
            pending = task is None and await self._is_pending(row, service, group)
            facts = Facts(
                task=task,
                pause=paused.get(one.subscription.task),
                dispatchers=alive["dispatcher"],
                workers=alive[service],
                queued=queued[service],
                held=held[one.subscription.task],
                came_later=task is None and not pending and _was_before(row.entry, group, joined),
                ahead=await self._ahead(row, one, task, group),
            )
            found.append(explain(one, facts, self._settings))
        return found

    async def _lengths(
        self, roles: list[str], wanted: Sequence[Delivery], queues: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        tasks = [one.subscription.task for one in wanted]
        seconds, micros = await self._client.time()
        since = seconds * 1000 + micros // 1000 - FRESH_MS
        pipeline = self._client.pipeline(transaction=False)
        for role in roles:
            pipeline.zcount(self._keys.alive(role), since, "+inf")
        streams = [
            (service, stream) for service in roles for stream in self._streams(queues.get(service, []))
        ]
        for _, stream in streams:
            pipeline.xlen(stream)
        for task in tasks:
            pipeline.xlen(self._keys.held(task))
        answers = [n if isinstance(n, int) else 0 for n in await pipeline.execute(raise_on_error=False)]
        n = len(roles)
        alive, lengths = answers[:n], answers[n : n + len(streams)]
        longest = dict.fromkeys(roles, 0)
        for (service, _), length in zip(streams, lengths, strict=True):
            longest[service] = max(longest[service], length)
        return (
            dict(zip(roles, alive, strict=True)),
            longest,
            dict(zip(tasks, answers[n + len(streams) :], strict=True)),
        )

    def _streams(self, queues: Sequence[str]) -> list[str]:
        return [stream for queue in queues for stream in self._keys.queue_streams(queue)]

    async def _groups(self, domain: str) -> dict[str, Mapping[str, Any]]:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xinfo_groups(self._keys.events(domain))
        [groups] = await pipeline.execute(raise_on_error=False)
        if not isinstance(groups, list):
            return {}
        return {group["name"].decode("utf-8", "replace"): group for group in groups}

    async def _is_pending(self, row: EventRow, service: str, group: Mapping[str, Any] | None) -> bool:
        if group is None or not group["pending"]:
            return False
        stream = self._keys.events(row.domain)
        return bool(await self._client.xpending_range(stream, service, row.entry, row.entry, 1))

    async def _ahead(
        self, row: EventRow, one: Delivery, task: TaskRow | None, group: Mapping[str, Any] | None
    ) -> Counted:
        keys, client = self._keys, self._client
        if task is not None and task.state == names.TaskState.HELD and task.held:
            stream = keys.held(one.subscription.task)
            return await count(client, stream, "0-0", f"({task.held}", MOST_AHEAD)
        if task is not None and task.state == names.TaskState.PENDING:
            before = await before_in_line(client, keys, {task.id: task.flow})
            return Counted(before[task.id][1], "", "", True) if task.id in before else _NONE
        if task is not None:
            return await self._in_queue(task) if task.entry else _NONE
        given = group["last-delivered-id"].decode() if group else "0-0"
        if position_key(given) >= position_key(row.entry):
            return _NONE  # a dispatcher has it in hand
        return await count(client, keys.events(row.domain), given, f"({row.entry}", MOST_AHEAD)

    async def _in_queue(self, task: TaskRow) -> Counted:
        """What is read before a queued task: all of higher priority, and what came earlier with its own."""
        place, client = task.place, self._client
        pipeline = client.pipeline(transaction=False)
        for priority in PRIORITIES[: PRIORITIES.index(place.priority)]:
            pipeline.xlen(self._keys.queue(place.queue, priority))
        higher = sum(n for n in await pipeline.execute(raise_on_error=False) if isinstance(n, int))
        stream = self._keys.queue(place.queue, place.priority)
        own = await count(client, stream, "0-0", f"({place.entry}", MOST_AHEAD)
        return replace(own, number=own.number + higher)


def _was_before(entry: str, group: Mapping[str, Any] | None, joined: str | None) -> bool:
    """Whether a group has passed an entry, or began after it: nothing more comes of it there."""
    if joined is not None and position_key(entry) <= position_key(joined):
        return True
    return group is not None and position_key(group["last-delivered-id"].decode()) >= position_key(entry)
