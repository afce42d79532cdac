"""What each worker of a service has in hand, and what waits for the service the longest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio

from streammesh import lua
from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.keys import FORWARDED, RETURNED, WORKERS, Keys
from streammesh.redisio.answers import only, there
from streammesh.status.backlog import count_call
from streammesh.tasks.records import TaskRow

MOST_DOMAINS = 64  # streams that are looked into for what is oldest
_CONSUMER = re.compile(r"(?P<host>.+)-(?P<pid>[0-9]{1,10})-[0-9a-f]{8}")
_WORKER = re.compile(r".*-(?P<pid>[0-9]{1,10})@(?P<host>.+)")


@dataclass(slots=True)
class Hands:
    """One process: how many entries of the queue it was given, and the tasks that it runs."""

    process: str
    taken: int = 0
    running: list[TaskRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OldestEvent:
    """The event that waits the longest to be handed over; `event` is None where it cannot be read."""

    at_ms: int
    domain: str
    event: Event | None


def process_of(name: str) -> str:
    """A process as `host:pid`, by its name in a queue's group or in Celery; any other name as it is. Pure."""
    found = _CONSUMER.fullmatch(name) or _WORKER.fullmatch(name)
    return f"{found['host']}:{found['pid']}" if found else name


async def read_hands(
    client: redis.asyncio.Redis, keys: Keys, queues: Sequence[str], running: Iterable[TaskRow]
) -> list[Hands]:
    """What the processes hold that read these queues, who holds the most first; `running` are their started tasks."""
    streams = [stream for queue in queues for stream in keys.queue_streams(queue)]
    pipeline = client.pipeline(transaction=False)
    for stream in streams:
        pipeline.xinfo_consumers(stream, WORKERS)
    found: dict[str, Hands] = {}
    for consumers in await pipeline.execute(raise_on_error=False) if streams else []:
        for one in consumers if isinstance(consumers, list) else ():
            name = one["name"].decode("utf-8", "replace")
            if one["pending"] and name not in (RETURNED, FORWARDED):
                process = process_of(name)
                found.setdefault(process, Hands(process)).taken += int(one["pending"])
    for row in running:
        process = process_of(row.worker or "?")
        found.setdefault(process, Hands(process)).running.append(row)
    return sorted(found.values(), key=lambda one: (-one.taken, -len(one.running), one.process))


async def read_oldest_event(
    client: redis.asyncio.Redis, keys: Keys, service: str, domains: Sequence[str]
) -> OldestEvent | None:
    """The oldest event of these domains that was not handed over to a service; None where none waits."""
    oldest: tuple[int, int, str] | None = None
    for domain in sorted(domains)[:MOST_DOMAINS]:
        position = await _first_waiting(client, keys.events(domain), service)
        if position:
            at, _, seq = position.partition("-")
            place = int(at), int(seq), domain
            oldest = min(oldest, place) if oldest else place
    if oldest is None:
        return None
    at_ms, seq_number, domain = oldest
    position = f"{at_ms}-{seq_number}"
    pipeline = client.pipeline(transaction=False)
    pipeline.xrange(keys.events(domain), position, position)
    entries = there(await only(pipeline), [])
    return OldestEvent(at_ms, domain, _event(entries))


async def _first_waiting(client: redis.asyncio.Redis, stream: str, service: str) -> str:
    """The position of the first event that a group was not given, or did not acknowledge."""
    pipeline = client.pipeline(transaction=False)
    pipeline.xinfo_groups(stream)
    group = next((one for one in there(await only(pipeline), []) if one["name"] == service.encode()), None)
    if group is None:
        return ""
    if group["pending"]:
        first = (await client.xpending(stream, service))["min"]
        if first:
            return str(first.decode())
    given = group["last-delivered-id"].decode()
    return (await lua.run(client, count_call(stream, given, "+", 1))).first


def _event(entries: Any) -> Event | None:
    try:
        return envelope.from_json(entries[0][1][b"e"])
    except (InvalidEvent, LookupError, TypeError):
        return None
