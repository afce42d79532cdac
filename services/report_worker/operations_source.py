"""Reads a period's events and ended tasks out of the mesh, newest first, for `operations.py` to sum up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import orjson
import redis
import structlog
from streammesh.clock import from_ms, to_ms
from streammesh.dead_letters.letters import parse
from streammesh.keys import Keys

from services.report_worker.operations import EventSeen, Period, TaskSeen

T = TypeVar("T")
log = structlog.get_logger()
PAGE = 1_000  # entries a round trip


def read_operations(
    client: redis.Redis, keys: Keys, period: Period, most: int
) -> tuple[list[TaskSeen], list[EventSeen], bool]:
    """(tasks that ended in the period, events published in it, whether there were more than `most` of either).

    What is older than the mesh's retention is not there any more. Failed tasks have the reason of their dead
    letter, for as long as that is parked.
    """
    ended = _entries(client, keys.tasks_recent(), period)
    tasks = list(islice(_read(_task, ended), most + 1))
    domains = sorted(domain.decode("utf-8", "replace") for domain in client.smembers(keys.domains()))
    events = [
        event
        for domain in domains
        for event in islice(_read(_event, _entries(client, keys.events(domain), period)), most + 1)
    ]
    events.sort(key=lambda event: event.at, reverse=True)
    cut_short = len(tasks) > most or len(events) > most
    return _with_reasons(client, keys, tasks[:most]), events[:most], cut_short


def _entries(client: redis.Redis, key: str, period: Period) -> Iterator[tuple[datetime, dict[bytes, bytes]]]:
    """A stream's entries of the period, newest first, page by page."""
    start, end = period
    first, last = str(to_ms(start)), f"{to_ms(end) - 1}"
    while True:
        page: list[Any] = client.xrevrange(key, last, first, count=PAGE)
        for position, fields in page:
            yield from_ms(int(position.partition(b"-")[0])), fields
        if len(page) < PAGE:
            return
        last = f"({page[-1][0].decode()}"


def _read(
    read: Callable[[datetime, dict[bytes, bytes]], T], entries: Iterator[tuple[datetime, dict[bytes, bytes]]]
) -> Iterator[T]:
    """What entries say; those that no part of the mesh wrote are stepped over, and said."""
    for at, fields in entries:
        try:
            yield read(at, fields)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            log.warning("entry.unreadable", at=at.isoformat(), reason=repr(error)[:200])


def _event(at: datetime, fields: dict[bytes, bytes]) -> EventSeen:
    return EventSeen(str(orjson.loads(fields[b"e"])["type"]), at)


def _task(ended: datetime, fields: dict[bytes, bytes]) -> tuple[str, TaskSeen]:
    def moment(name: bytes) -> datetime | None:
        value = fields.get(name)
        return datetime.fromtimestamp(int(value) / 1000, UTC) if value else None

    seen = TaskSeen(
        service=fields[b"v"].decode(),
        name=fields[b"n"].decode(),
        state=fields[b"s"].decode(),
        attempts=int(fields[b"a"]),
        queued=moment(b"q"),
        started=moment(b"r"),
        ended=ended,
    )
    return fields[b"k"].decode(), seen


def _with_reasons(client: redis.Redis, keys: Keys, tasks: list[tuple[str, TaskSeen]]) -> list[TaskSeen]:
    by_service: dict[str, list[str]] = defaultdict(list)
    for task_id, task in tasks:
        if task.state == "failed":
            by_service[task.service].append(task_id)
    reasons: dict[str, str] = {}
    for service, ids in by_service.items():
        for at in range(0, len(ids), PAGE):
            letters: list[Any] = client.hmget(keys.dead(service), ids[at : at + PAGE])
            for task_id, letter in zip(ids[at : at + PAGE], letters, strict=True):
                if letter is not None:
                    reasons[task_id] = parse(service, task_id, 0, letter).reason
    return [replace(task, reason=reasons.get(task_id, "")) for task_id, task in tasks]
