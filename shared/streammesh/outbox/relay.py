"""Publishes what waits in an outbox, in batches, and deletes it when the mesh has it.

What if SIGKILL here? Before the commit the rows are there still, and are published again by whoever comes next: the mesh knows
an event by its source and id for `MESH_DEDUP_WINDOW`, so it is there once. After it they are gone, and the events are stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa
import structlog
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import Connection, Engine, MetaData, Table
from sqlalchemy.exc import SQLAlchemyError

from streammesh.errors import EventConflict, EventTooLarge, InvalidEvent, MeshUnavailable
from streammesh.events import envelope
from streammesh.events.envelope import LARGEST, Event
from streammesh.events.publisher import Published, ms
from streammesh.outbox.table import outbox_table
from streammesh.redisio.refusals import is_unavailable

BATCH = 200  # rows of one transaction
MOST_BYTES = 4_000_000  # of one transaction, and at least one row
MOST_ATTEMPTS = 12  # of a row that Redis refuses by itself; it is set aside after about an hour
LONGEST_WAIT_MS = 600_000
LOOK_EVERY = timedelta(milliseconds=500)
ASIDE_KEPT = timedelta(days=30)
MOST_PARTITIONS = 1_000  # that wait behind a row which is tried again later
LONGEST_REASON = 500
log = structlog.get_logger(__name__)


class BlockingPublisher(Protocol):
    """What publishes a batch, all or nothing: `streammesh.SyncPublisher`."""

    def publish_events(self, events: Sequence[Event]) -> list[Published]:
        """Publish. Raises EventConflict, EventTooLarge, MeshUnavailable, and errors of redis-py."""


@dataclass(slots=True)
class Passed:
    """What one pass did: rows that the mesh has now, that were set aside, that are tried again later."""

    relayed: int = 0
    aside: int = 0
    later: int = 0


class WaitingRow(NamedTuple):
    """One row that is to be published."""

    position: int
    event: Event
    attempts: int


@dataclass(slots=True)
class _PassUnderWay:
    """One transaction under way."""

    done: list[int] = field(default_factory=list)
    aside: dict[int, str] = field(default_factory=dict)
    later: dict[int, tuple[int, str]] = field(default_factory=dict)  # attempts, reason


class Relay:
    """Relays one outbox. Any number may run.

    `in_order` (PostgreSQL): one of them works at a time, in the order of the rows, and what stands behind a row of the same
    partition that is tried again later waits with it. Without it they share the rows (`SKIP LOCKED`), and no order is kept.
    """

    def __init__(
        self,
        engine: Engine,
        publisher: BlockingPublisher,
        table: Table | None = None,
        *,
        batch: int = BATCH,
        in_order: bool = True,
        look_every: timedelta = LOOK_EVERY,
        aside_kept: timedelta = ASIDE_KEPT,
    ) -> None:
        self._engine, self._publisher, self._batch = engine, publisher, batch
        self._table = outbox_table(MetaData()) if table is None else table
        self._in_order, self._look_every, self._aside_kept = in_order, look_every, aside_kept
        self._is_postgres = engine.dialect.name == "postgresql"
        self._dropped_at = float("-inf")
        self._said = ""
        self.changed = asyncio.Event()  # to be set by who knows that something was committed

    async def run(self) -> None:
        """Relay for ever. While the database or the mesh is away, it says so once and goes on trying."""
        wait = 0.5
        while True:
            self.changed.clear()
            try:
                passed = await self.run_once()
                wait, self._said = 0.5, ""
            except (MeshUnavailable, RedisError, OSError, SQLAlchemyError) as error:
                reason = str(getattr(error, "orig", error))[:300]
                if reason != self._said:
                    log.warning("outbox.away", reason=reason)
                self._said = reason
                await asyncio.sleep(wait)
                wait = min(15.0, wait * 2)
                continue
            if passed.relayed or passed.aside:
                continue
            try:
                async with asyncio.timeout(self._look_every.total_seconds()):
                    await self.changed.wait()
            except TimeoutError:
                continue

    async def run_once(self) -> Passed:
        """Relay one batch. Raises MeshUnavailable and SQLAlchemyError; then nothing was changed in the database."""
        return await asyncio.to_thread(self.relay)

    def relay(self) -> Passed:
        """As `run_once`, blocking."""
        with self._engine.begin() as connection:
            if self._is_postgres and self._in_order:
                name = sa.func.hashtextextended(self._table.fullname, 0)
                if not connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(name))).scalar():
                    return Passed()
            now = time.time_ns() // 1_000_000
            this = _PassUnderWay()
            waiting = self._waiting(connection, now, this)
            self._publish(waiting, this)
            self._write_down(connection, this, now)
            self._drop_old(connection, now)
        for position, reason in this.aside.items():
            log.error("outbox.set_aside", position=position, reason=reason)
        return Passed(len(this.done), len(this.aside), len(this.later))

    # --- what waits ---------------------------------------------------------------------------

    def _waiting(self, connection: Connection, now: int, this: _PassUnderWay) -> list[WaitingRow]:
        """The next rows, locked. What is no event is set aside."""
        c = self._table.c
        due = [c.aside.is_(None), c.not_before <= now]
        if self._in_order and (behind := self._behind(connection, now)):
            due.append(sa.or_(c.partition.is_(None), c.partition.not_in(behind)))
        sizes = sa.select(c.position, sa.func.length(c.envelope)).where(*due).order_by(c.position)
        sizes = sizes.limit(self._batch).with_for_update(skip_locked=True)
        chosen, size = list[int](), 0
        for position, length in connection.execute(sizes):
            if length > LARGEST:  # whoever wrote it: it is not even read
                this.aside[position] = f"it is no event: it has {length:,} characters"
                continue
            size += length
            if chosen and size > MOST_BYTES:
                break
            chosen.append(position)
        if not chosen:
            return []
        found = (
            sa.select(c.position, c.envelope, c.attempts).where(c.position.in_(chosen)).order_by(c.position)
        )
        waiting = []
        for position, text, attempts in connection.execute(found):
            try:
                waiting.append(WaitingRow(position, envelope.from_json(text.encode()), attempts))
            except (InvalidEvent, EventTooLarge, UnicodeEncodeError) as error:
                this.aside[position] = f"it is no event: {error}"
        return waiting

    def _behind(self, connection: Connection, now: int) -> list[Any]:
        """Partitions of which a row is tried again later."""
        c = self._table.c
        query = sa.select(c.partition).where(c.aside.is_(None), c.not_before > now, c.partition.is_not(None))
        return list(connection.execute(query.distinct().limit(MOST_PARTITIONS)).scalars())

    # --- to the mesh ---------------------------------------------------------------------------

    def _publish(self, waiting: list[WaitingRow], this: _PassUnderWay) -> None:
        """Publish all of them that can be. What the mesh can never take is set aside."""
        while waiting:
            try:
                self._publisher.publish_events([one.event for one in waiting])
            except EventConflict as error:
                this.aside[waiting.pop(error.index).position] = str(error)
                continue
            except (EventTooLarge, InvalidEvent):
                return self._one_by_one(waiting, this)
            except ResponseError as error:
                if is_unavailable(error):
                    raise
                return self._one_by_one(waiting, this)
            this.done += [one.position for one in waiting]
            return None
        return None

    def _one_by_one(self, waiting: list[WaitingRow], this: _PassUnderWay) -> None:
        held: set[str] = set()  # partitions of rows that are tried again later
        for one in waiting:
            partition = one.event.extensions.get("partitionkey", one.event.subject)
            if self._in_order and partition is not None and str(partition) in held:
                continue
            try:
                self._publisher.publish_events([one.event])
                this.done.append(one.position)
            except (EventConflict, EventTooLarge, InvalidEvent) as error:
                this.aside[one.position] = str(error)
            except ResponseError as error:
                if is_unavailable(error):
                    raise
                reason = f"Redis refuses it: {error}"
                if one.attempts + 1 >= MOST_ATTEMPTS:
                    this.aside[one.position] = reason
                    continue
                this.later[one.position] = one.attempts + 1, reason
                held.add(str(partition))

    # --- the outcome ---------------------------------------------------------------------------

    def _write_down(self, connection: Connection, this: _PassUnderWay, now: int) -> None:
        c = self._table.c
        if this.done:
            connection.execute(sa.delete(self._table).where(c.position.in_(this.done)))
        for position, reason in this.aside.items():
            values = {"aside": now, "reason": reason[:LONGEST_REASON]}
            connection.execute(sa.update(self._table).where(c.position == position).values(values))
        for position, (attempts, reason) in this.later.items():
            wait = min(LONGEST_WAIT_MS, 1_000 * 2**attempts)
            values = {"attempts": attempts, "not_before": now + wait, "reason": reason[:LONGEST_REASON]}
            connection.execute(sa.update(self._table).where(c.position == position).values(values))

    def _drop_old(self, connection: Connection, now: int) -> None:
        """Delete rows that were set aside long ago, which is said."""
        if time.monotonic() - self._dropped_at < 3_600:
            return
        self._dropped_at = time.monotonic()
        old = self._table.c.aside < now - ms(self._aside_kept)
        if dropped := connection.execute(sa.delete(self._table).where(old)).rowcount:
            log.error("outbox.dropped", count=dropped)

    def try_again(self) -> int:
        """Let rows that were set aside be tried again; answers how many."""
        values = {"aside": None, "reason": None, "attempts": 0, "not_before": 0}
        with self._engine.begin() as connection:
            aside = self._table.c.aside.is_not(None)
            return connection.execute(sa.update(self._table).where(aside).values(values)).rowcount
