"""Adds events to a transaction of the service's own database."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from streammesh.events.envelope import Event, build, check_size
from streammesh.events.publisher import most_bytes
from streammesh.outbox.table import outbox_table
from streammesh.settings import MeshSettings


class Outbox:
    """Writes events of one source into the table. Nothing is sent from here, and Redis is not asked.

    `add` and `add_async` take what `Publisher.publish` takes. They raise InvalidEvent and EventTooLarge, with nothing
    written. The event is there if the transaction is committed, and not if it is rolled back.
    """

    def __init__(
        self, source: str, table: Table | None = None, *, settings: MeshSettings | None = None
    ) -> None:
        self.source = source
        self.table = outbox_table(MetaData()) if table is None else table
        self._most = most_bytes(settings or MeshSettings(_env_file=None))

    def add(
        self, session: Session | Connection, event_type: str, data: Any = None, **attributes: Any
    ) -> Event:
        """Add an event to the transaction of a session or connection; answers it with its id."""
        event, row = self._row(event_type, data, attributes)
        session.execute(row)
        return event

    async def add_async(
        self, session: AsyncSession | AsyncConnection, event_type: str, data: Any = None, **attributes: Any
    ) -> Event:
        """As `add`, for an asyncio session or connection."""
        event, row = self._row(event_type, data, attributes)
        await session.execute(row)
        return event

    def _row(self, event_type: str, data: Any, attributes: dict[str, Any]) -> tuple[Event, sa.Insert]:
        event = build(self.source, event_type, data, **attributes)
        json = event.to_json()
        check_size(len(json), self._most)
        partition = event.extensions.get("partitionkey", event.subject)
        row = self.table.insert().values(
            event_id=event.id,
            type=event.type,
            partition=None if partition is None else str(partition),
            envelope=json.decode(),
            written=time.time_ns() // 1_000_000,
        )
        return event, row
