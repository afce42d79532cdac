"""The past of a mesh in the order of its events: from Redis, and what has left it from the history, as one.

Redis is read first: what leaves it between the two questions is in the history by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import redis.asyncio
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from streammesh import names
from streammesh.backfill.places import Place
from streammesh.errors import MeshError
from streammesh.history import queries
from streammesh.history.engine import open_engine, said
from streammesh.keys import Keys
from streammesh.redisio.answers import there
from streammesh.redisio.page_size import PageSize
from streammesh.subscriptions.registry import read_domains
from streammesh.tasks.records import EventRow

T = TypeVar("T")
FIRST = 64  # events of the first look: how large they are is not known yet


class HistoryAway(MeshError):
    """The history does not answer, or this process is not told where it is: what has left Redis is not known."""


class PastEvent(NamedTuple):
    """One event that is kept: its place, and its JSON, None where nothing readable lies there."""

    place: Place
    envelope: bytes | None


class PastPage(NamedTuple):
    """Events that follow a place, and up to where this is all; None where nothing follows."""

    events: list[PastEvent]
    after: Place | None


class LeftEvent(NamedTuple):
    """What the history says of an event whose row has left Redis."""

    row: EventRow
    tasks: dict[str, str]  # id -> state


class Archive:
    """The history of a mesh, asked in a thread. Raises HistoryAway, where the API would make do with less."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, reads_only=True)

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer to a question of `queries.py`."""

        def answer() -> T:
            with self._engine.connect() as connection:
                return question(connection)

        try:
            return await asyncio.to_thread(answer)
        except SQLAlchemyError as error:
            raise HistoryAway(f"the history is away: {said(error)}") from error

    def close(self) -> None:
        """Let go of its connections."""
        self._engine.dispose()


class Past:
    """Kept events whose types fit a pattern, up to a time (ms, not included)."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        archive: Archive | None,
        pattern: str,
        before_ms: int,
        most: int,
    ) -> None:
        self._client, self._keys, self._archive = client, keys, archive
        self._pattern, self._before = pattern, before_ms
        self._size = PageSize(most, min(most, FIRST))
        self._domain = names.domain_of_pattern(pattern)

    async def page(self, after: Place) -> PastPage:
        """The events that follow. Raises HistoryAway."""
        count = self._size.count
        found, bounds = await self._of_streams(after, count)
        if self._archive is not None:
            search = queries.EventSearch(self._pattern, since=after.at, until=self._before)
            question = partial(
                queries.events_after, search=search, after=(after.at, after.seq, after.domain), most=count
            )
            rows = await self._archive.ask(question)
            for place, envelope in rows:
                found.setdefault(Place(*place), envelope.encode())
            if len(rows) == count:
                bounds.append(Place(*rows[-1][0]))
        bound = min(bounds) if bounds else None
        certain = sorted(place for place in found if bound is None or place <= bound)
        if len(certain) > count:
            certain, bound = certain[:count], certain[count - 1]
        events = [PastEvent(place, found[place]) for place in certain]
        self._size.seen(sum(len(one.envelope or b"") for one in events))
        return PastPage(events, bound)

    async def _of_streams(self, after: Place, count: int) -> tuple[dict[Place, bytes | None], list[Place]]:
        """What Redis holds, and up to where that is all in those domains where more follows."""
        domains = [self._domain] if self._domain else sorted(await read_domains(self._client, self._keys))
        pipeline = self._client.pipeline(transaction=False)
        for domain in domains:
            pipeline.xrange(self._keys.events(domain), after.after_in(domain), str(self._before - 1), count)
        found: dict[Place, bytes | None] = {}
        bounds = []
        answers = await pipeline.execute(raise_on_error=False) if domains else []
        for domain, answer in zip(domains, answers, strict=True):
            entries = there(answer, [])
            for position, fields in entries:
                at, _, seq = position.decode().partition("-")
                place = Place(int(at), int(seq), domain)
                found[place] = (fields or {}).get(b"e")
            if len(entries) == count:
                bounds.append(place)
        return found, bounds

    async def left(self, events: Sequence[tuple[str, str]]) -> dict[tuple[str, str], LeftEvent]:
        """What the history says of events, by (id, source). Raises HistoryAway."""
        if self._archive is None or not events:
            return {}
        ids = list(dict.fromkeys(event_id for event_id, _ in events))

        def question(connection: Connection) -> dict[tuple[str, str], LeftEvent]:
            rows = queries.events_with_ids(connection, ids)
            tasks = queries.tasks_of_events(connection, ids)
            return {(row.id, row.source): LeftEvent(row, tasks.get((row.id, row.source), {})) for row in rows}

        return await self._archive.ask(question)
