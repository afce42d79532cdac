"""The tables of the history. They are made and changed by the migrations beside this file.

Every row bears the day of its event's place in the stream, which never changes, so that a row is written again in
the same partition, whoever writes it and whenever. Times are ms since the epoch.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, SmallInteger, Table, Text

DAY_MS = 86_400_000
metadata = MetaData()
BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")  # compared as Python compares

events = Table(
    "events",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("id", BYTEWISE, primary_key=True),
    Column("source", BYTEWISE, primary_key=True),
    Column("at", BigInteger, nullable=False),  # its place in the stream: `at`-`seq` of `domain`
    Column("seq", BigInteger, nullable=False),
    Column("domain", BYTEWISE, nullable=False),
    Column("type", BYTEWISE, nullable=False),
    Column("subject", BYTEWISE),
    Column("correlation", BYTEWISE),
    Column("state", Text, nullable=False),
    Column("wanted", Integer),
    Column("done", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("ended", BigInteger),
    Column("envelope", Text, nullable=False),
)
tasks = Table(
    "tasks",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("id", BYTEWISE, primary_key=True),
    Column("event_id", BYTEWISE, nullable=False),
    Column("event_source", BYTEWISE, nullable=False),
    Column("event_type", BYTEWISE, nullable=False),
    Column("event_subject", BYTEWISE),
    Column("correlation", BYTEWISE),
    Column("name", BYTEWISE, nullable=False),
    Column("service", BYTEWISE, nullable=False),
    Column("queue", BYTEWISE, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),  # its place among the ended: `at`-`seq`
    Column("seq", BigInteger, nullable=False),
    Column("queued", BigInteger),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("worker", Text),
    Column("outcome", Text, nullable=False),
)
letters = Table(
    "letters",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("service", BYTEWISE, primary_key=True),
    Column("id", BYTEWISE, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("letter", Text, nullable=False),
)
MERGED = {events: ("id", "source", "day"), tasks: ("id", "day"), letters: ("service", "id", "day")}

Index("events_at", events.c.at, events.c.seq)
Index("events_type_at", events.c.type, events.c.at)
Index(
    "events_subject",
    events.c.subject,
    events.c.at,
    postgresql_where=events.c.subject.is_not(None),
    sqlite_where=events.c.subject.is_not(None),
)
Index(
    "events_correlation",
    events.c.correlation,
    postgresql_where=events.c.correlation.is_not(None),
    sqlite_where=events.c.correlation.is_not(None),
)
Index(
    "events_open",
    events.c.at,
    events.c.seq,
    postgresql_where=events.c.ended.is_(None),
    sqlite_where=events.c.ended.is_(None),
)
Index("tasks_at", tasks.c.at, tasks.c.seq)
Index("tasks_event", tasks.c.event_id)
Index("letters_at", letters.c.at)


def partition(table: Table, day: int) -> str:
    """The name of a day's partition in PostgreSQL."""
    return f"{table.name}_d{day}"
