"""Writes the history. Rows are written by id: the same batch may be written again, by several at once.

Blocking; its callers run it in a thread. Errors of the database are raised as SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import InvalidRequestError

from streammesh.history.engine import open_engine
from streammesh.history.rows import EventEnd, EventRecord, LetterRecord, TaskRecord
from streammesh.history.schema import MERGED, events, letters, metadata, partition, tasks

LOCK = 7_308_895_149  # of PostgreSQL: who makes or drops tables holds it
LOCK_TIMEOUT = "5s"  # rather try again later than stop every reader
_END = ("state", "wanted", "done", "failed", "ended")


class HistoryBatch(NamedTuple):
    """What is written together."""

    events: Sequence[EventRecord] = ()
    tasks: Sequence[TaskRecord] = ()
    letters: Sequence[LetterRecord] = ()
    ends: Sequence[EventEnd] = ()


class OpenEvent(NamedTuple):
    """An event of the history of which something goes on."""

    day: int
    id: str
    source: str
    at: int
    seq: int


class HistoryStore:
    """The history of one mesh, to be written."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self.is_postgres = self.engine.dialect.name == "postgresql"
        self._days: set[int] = set()  # whose partitions are there; forgotten when the first day is dropped

    def close(self) -> None:
        """Let go of its connections."""
        self.engine.dispose()

    def migrate(self) -> None:
        """Make the tables, or bring them up to date. Several may do so at once.

        Raises InvalidRequestError, and changes nothing, where they are of a version that it does not know.
        """
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.engine.begin() as connection:
            if self.is_postgres:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise InvalidRequestError(
                    "the tables are of a newer streammesh, or of another program: start the archiver of that version,"
                    f" or name an empty database in MESH_HISTORY_URL ({error})"
                ) from error

    def write(self, batch: HistoryBatch) -> set[tuple[str, str]]:
        """Write all of it, or nothing; answers (id, source) of those `ends` whose events were there, and not ended so."""
        if self.is_postgres:
            self._make_days({row.day for rows in batch[:3] for row in rows})
        with self.engine.begin() as connection:
            # In one order of tables and keys, so that two writers do not wait for each other.
            parts: list[tuple[Table, Sequence[tuple[Any, ...]]]]
            parts = [(events, batch.events), (tasks, batch.tasks), (letters, batch.letters)]
            for table, rows in parts:
                if rows:
                    self._merge(connection, table, _last_of_each(table, rows))
            return self._end(connection, batch.ends) if batch.ends else set()

    def open_events(self, after: tuple[int, int], most: int) -> list[OpenEvent]:
        """Events of which something goes on, in their order, after a place."""
        c = events.c
        query = (
            sa.select(c.day, c.id, c.source, c.at, c.seq)
            .where(c.ended.is_(None), sa.tuple_(c.at, c.seq) > sa.tuple_(*map(sa.literal, after)))
            .order_by(c.at, c.seq)
            .limit(most)
        )
        with self.engine.connect() as connection:
            return [OpenEvent(*row) for row in connection.execute(query)]

    def last_letter(self, service: str) -> int:
        """When the latest dead letter of a service was parked that is written down, ms; 0 for none."""
        query = sa.select(sa.func.max(letters.c.at)).where(letters.c.service == service)
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar() or 0)

    def recount(self, ids: Iterable[tuple[int, str, str]]) -> None:
        """Count anew, from the history itself, what failed of ended events (day, id, source); a replay changed it."""
        failed = (
            sa.select(sa.func.count())
            .where(tasks.c.event_id == events.c.id, tasks.c.event_source == events.c.source)
            .where(tasks.c.day == events.c.day, tasks.c.state != "succeeded")
            .scalar_subquery()
        )
        with self.engine.begin() as connection:
            for day, id, source in sorted(set(ids)):
                this = sa.and_(events.c.day == day, events.c.id == id, events.c.source == source)
                done = events.c.ended.is_not(None)
                connection.execute(sa.update(events).where(this, done).values(failed=failed))
                state = sa.case((events.c.failed > 0, "failed"), else_="completed")
                routed = events.c.state.in_(("failed", "completed"))
                connection.execute(sa.update(events).where(this, done, routed).values(state=state))

    def drop_before(self, day: int) -> int:
        """Remove what is older than a day; answers how many partitions, or rows, that were."""
        if not self.is_postgres:
            with self.engine.begin() as connection:
                return sum(connection.execute(sa.delete(t).where(t.c.day < day)).rowcount for t in MERGED)
        self._days = {one for one in self._days if one >= day}
        with self.engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            old = [name for name in _partitions(connection) if int(name.rpartition("_d")[2]) < day]
            for name in old:
                connection.execute(sa.text(f"DROP TABLE {name}"))
        return len(old)

    def _make_days(self, days: set[int]) -> None:
        missing = days - self._days
        if not missing:
            return
        with self.engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            there = set(_partitions(connection))
            for day in sorted(missing):
                for table in MERGED:
                    if (name := partition(table, day)) not in there:
                        connection.execute(
                            sa.text(
                                f"CREATE TABLE {name} PARTITION OF {table.name} FOR VALUES FROM ({day}) TO ({day + 1})"
                            )
                        )
        self._days |= missing

    def _merge(self, connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        if not self.is_postgres:
            insert = sqlite.insert(table)
            new = insert.excluded
            names = [column.name for column in table.columns]
            merge = insert.on_conflict_do_update(
                index_elements=MERGED[table],
                set_={name: new[name] for name in names if name not in MERGED[table]},
                where=_is_newer(table, table.c, new),
            )
            connection.execute(merge, [dict(zip(names, row, strict=True)) for row in rows])
            return
        incoming = f"incoming_{table.name}"
        columns = ", ".join(column.name for column in table.columns)
        connection.execute(
            sa.text(f"CREATE TEMP TABLE IF NOT EXISTS {incoming} (LIKE {table.name}) ON COMMIT DELETE ROWS")
        )
        driver: Any = connection.connection.driver_connection
        with closing(driver.cursor()) as cursor:
            with cursor.copy(f"COPY {incoming} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
            cursor.execute(_MERGES[table])

    def _end(self, connection: Connection, ends: Sequence[EventEnd]) -> set[tuple[str, str]]:
        if self.is_postgres:
            connection.execute(sa.text(_ENDS))
            driver: Any = connection.connection.driver_connection
            with closing(driver.cursor()) as cursor:
                with cursor.copy(f"COPY incoming_ends ({', '.join(EventEnd._fields)}) FROM STDIN") as copy:
                    for end in sorted({end[:3]: end for end in ends}.values(), key=lambda end: end[:3]):
                        copy.write_row(end)
                cursor.execute(_END_EVENTS)
                return {(id, source) for id, source in cursor}
        c = events.c
        update = (
            sa.update(events)
            .where(c.day == sa.bindparam("b_day"), c.id == sa.bindparam("b_id"))
            .where(c.source == sa.bindparam("b_source"))
            .where(sa.or_(c.ended.is_(None), c.ended < sa.bindparam("b_ended")))
            .values({name: sa.bindparam(f"b_{name}") for name in _END})
        )
        return {
            (end.id, end.source)
            for end in ends
            if connection.execute(
                update, {f"b_{name}": value for name, value in end._asdict().items()}
            ).rowcount
        }


def _is_newer(table: Table, old: Any, new: Any) -> Any:
    """Whether a row that is written again says more than what is there."""
    if table is events:
        return sa.or_(old.ended.is_(None), new.ended > old.ended)
    return (
        sa.or_(new.at > old.at, sa.and_(new.at == old.at, new.seq > old.seq))
        if table is tasks
        else new.at > old.at
    )


def _merge_text(table: Table) -> str:
    keys = MERGED[table]
    rest = [column.name for column in table.columns if column.name not in keys]
    name, all_columns = table.name, ", ".join(column.name for column in table.columns)
    newer = {
        "events": "events.ended IS NULL OR excluded.ended > events.ended",
        "tasks": "(excluded.at, excluded.seq) > (tasks.at, tasks.seq)",
        "letters": "excluded.at > letters.at",
    }[name]
    return (  # of names that stand in the code
        f"INSERT INTO {name} ({all_columns}) SELECT {all_columns} FROM incoming_{name}"  # noqa: S608
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET"
        f" {', '.join(f'{column} = excluded.{column}' for column in rest)} WHERE {newer}"
    )


_ENDS = (
    "CREATE TEMP TABLE IF NOT EXISTS incoming_ends (day int, id text, source text, state text, wanted int,"
    " done int, failed int, ended bigint) ON COMMIT DELETE ROWS"
)
_END_EVENTS = (
    f"UPDATE events SET {', '.join(f'{name} = i.{name}' for name in _END)} FROM incoming_ends i"  # noqa: S608
    ' WHERE events.day = i.day AND events.id = i.id COLLATE "C" AND events.source = i.source COLLATE "C"'
    " AND (events.ended IS NULL OR events.ended < i.ended) RETURNING events.id, events.source"
)
_MERGES = {table: _merge_text(table) for table in MERGED}


def _last_of_each(table: Table, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows in the order of their keys, without those that a later one of the same key stands for."""
    names = [column.name for column in table.columns]
    key = itemgetter(*(names.index(name) for name in MERGED[table]))
    return [row for _, row in sorted({key(row): row for row in rows}.items(), key=itemgetter(0))]


def _partitions(connection: Connection) -> list[str]:
    query = sa.text(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = ANY(:parents) AND c.relkind = 'r'"
        " AND p.relnamespace = current_schema()::regnamespace"
    )
    return [name for (name,) in connection.execute(query, {"parents": list(metadata.tables)})]
