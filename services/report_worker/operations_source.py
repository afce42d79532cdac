"""Reads a period's events and ended tasks out of the mesh, newest first, for `operations.py` to sum up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
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
from services.report_worker.operations_history import Place, read_past

T = TypeVar("T")
Entry = tuple[bytes, dict[bytes, bytes]]  # position, fields
log = structlog.get_logger()
PAGE = 1_000  # entries a round trip


def read_operations(
    client: redis.Redis, keys: Keys, period: Period, most: int, history_url: str | None = None
) -> tuple[list[TaskSeen], list[EventSeen], bool]:
    """(tasks that ended in the period, events published in it, whether there were more than `most` of either).

    What has left Redis is in the history, where there is one; what is older than the mesh's retention is not there any
    more. Failed tasks have the reason of their dead
    letter, for as long as that is parked.
    """
    ended = _entries(client, keys.tasks_recent(), period)
    seen = list(islice(_read(_task, ended), most + 1))
    tasks = _with_reasons(client, keys, seen)
    domains = sorted(domain.decode("utf-8", "replace") for domain in client.smembers(keys.domains()))
    events: dict[Place, EventSeen] = {}
    for domain in domains:
        events |= dict(islice(_read(_event, _entries(client, keys.events(domain), period)), most + 1))
    if history_url is not None:
        past_tasks, past_events = read_past(history_url, period, most + 1)
        known = {task_id for task_id, _ in seen}  # of a task that was replayed Redis knows each end
        tasks += [task for task_id, task in past_tasks.items() if task_id not in known]
        tasks.sort(key=lambda task: task.ended or period[0], reverse=True)
        events = past_events | events
    published = [event for _, event in sorted(events.items(), reverse=True)]
    cut_short = len(tasks) > most or len(published) > most
    return tasks[:most], published[:most], cut_short


def read_all_operations(
    shards: Iterable[tuple[redis.Redis, Keys, str | None]], period: Period, most: int
) -> tuple[list[TaskSeen], list[EventSeen], bool]:
    """As `read_operations`, of all shards of a mesh."""
    tasks: list[TaskSeen] = []
    events: list[EventSeen] = []
    cut_short = False  # the sorts are stable: of one shard everything is as it was read
    for client, keys, history_url in shards:
        some, published, was_cut = read_operations(client, keys, period, most, history_url)
        tasks, events, cut_short = tasks + some, events + published, cut_short or was_cut
    tasks.sort(key=lambda task: task.ended or period[0], reverse=True)
    events.sort(key=lambda event: event.at, reverse=True)
    return tasks[:most], events[:most], cut_short or len(tasks) > most or len(events) > most


def _entries(client: redis.Redis, key: str, period: Period) -> Iterator[Entry]:
    """A stream's entries of the period, newest first, page by page."""
    start, end = period
    first, last = str(to_ms(start)), f"{to_ms(end) - 1}"
    while True:
        page: list[Any] = client.xrevrange(key, last, first, count=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        last = f"({page[-1][0].decode()}"


def _read(read: Callable[[bytes, dict[bytes, bytes]], T], entries: Iterator[Entry]) -> Iterator[T]:
    """What entries say; those that no part of the mesh wrote are stepped over, and said."""
    for position, fields in entries:
        try:
            yield read(position, fields)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            log.warning("entry.unreadable", at=_moment(position).isoformat(), reason=repr(error)[:200])


def _moment(position: bytes) -> datetime:
    return from_ms(int(position.partition(b"-")[0]))


def _event(position: bytes, fields: dict[bytes, bytes]) -> tuple[Place, EventSeen]:
    at, seq = map(int, position.split(b"-"))
    event_type = str(orjson.loads(fields[b"e"])["type"])
    return (at, seq, event_type), EventSeen(event_type, from_ms(at))


def _task(position: bytes, fields: dict[bytes, bytes]) -> tuple[str, TaskSeen]:
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
        ended=_moment(position),
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
