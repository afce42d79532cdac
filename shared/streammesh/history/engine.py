"""Opens the database of a history, for who writes it and who reads it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine, event

CONNECT_SECONDS = 3
STATEMENT_MS = 15_000  # of a reader; a writer's batch may take as long as it takes
BUSY_MS = 10_000  # SQLite: how long to wait for another writer
POOL = 4


def open_engine(url: str, *, reads_only: bool = False) -> Engine:
    """The engine of `MESH_HISTORY_URL`. Connects at the first use."""
    if url.startswith("sqlite:"):
        return _sqlite(url)
    options = f"-c statement_timeout={STATEMENT_MS} -c default_transaction_read_only=on" if reads_only else ""
    return sa.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1),
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "streammesh",
            "keepalives_idle": 10,
            "tcp_user_timeout": 20_000,
            "options": options,
        },
    )


def said(error: Exception) -> str:
    """What a database said, in short; of a file that is none of ours, what to do."""
    text = str(getattr(error, "orig", error)).strip()[:300]
    if "file is not a database" in text or "readonly database" in text:
        return f"{text}; MESH_HISTORY_URL should name a file that streammesh made, or none yet, which it may write to"
    return text


def _sqlite(url: str) -> Engine:
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def begin(connection: Any, _: Any) -> None:
        connection.isolation_level = (
            None  # transactions are begun below, so that a writer waits at their begin
        )
        connection.create_function("casefold", 1, _casefold, deterministic=True)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", f"busy_timeout = {BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def immediate(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        file = Path(arguments[0])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            return sqlite3.connect(*arguments, **options)
        except (OSError, sqlite3.OperationalError) as error:
            hint = "MESH_HISTORY_URL should name a file in a folder that this process may write to"
            raise sqlite3.OperationalError(f"{file}: {getattr(error, 'strerror', error)}; {hint}") from error

    return engine


def _casefold(text: str | None) -> str | None:
    return text.casefold() if text is not None else None
