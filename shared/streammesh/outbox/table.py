"""The table in a service's own database in which events wait for the relay."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

NAME = "streammesh_outbox"
_POSITION = BigInteger().with_variant(Integer, "sqlite")  # which counts only those by itself


def outbox_table(metadata: MetaData, name: str = NAME, *, schema: str | None = None) -> Table:
    """The table, as part of the service's own tables, so that its migrations make it.

    Times are ms since the epoch. A row is deleted when the mesh has its event. `not_before`: when a row that Redis refused
    is tried again; `aside`: since when it is not tried any more, and `reason` why.
    """
    table = Table(
        name,
        metadata,
        Column("position", _POSITION, primary_key=True, autoincrement=True),
        Column("event_id", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("partition", Text),
        Column("envelope", Text, nullable=False),
        Column("written", BigInteger, nullable=False),
        Column("attempts", Integer, nullable=False, server_default="0"),
        Column("not_before", BigInteger, nullable=False, server_default="0"),
        Column("aside", BigInteger),
        Column("reason", Text),
        schema=schema,
    )
    waits = table.c.aside.is_(None)
    Index(f"{name}_waiting", table.c.position, postgresql_where=waits, sqlite_where=waits)
    return table
