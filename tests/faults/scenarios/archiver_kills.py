"""Archivers killed at random points, and a history that is away: what ended is in it once, counted independently."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from streammesh.testing.conditions import wait_until

from tests.faults.arena import Arena
from tests.faults.report import Row
from tests.faults.stage import Played, Stage, kill_in_turn, play
from tests.faults.witness import Facts

NAME = "archivers killed at random points, and their history away"
ARCHIVERS = 2
AWAY = 4.0  # seconds for which nobody can write into the history
CATCH_UP_SECONDS = 60
QUICK = {"ARCHIVER_LINGER": "50ms", "ARCHIVER_RECLAIM_IDLE": "1s", "ARCHIVER_LOOK_EVERY": "500ms"}


async def run(stage: Stage) -> Row:
    """Two archivers, one of which is just being killed, under a mixed load."""
    kills, events, seconds = stage.pick(short=(8, 150, 4), quick=(20, 400, 10), normal=(150, 1_500, 60))
    file = stage.folder / "history.db"
    async with stage.arena(MESH_HISTORY_URL=f"sqlite:///{file}") as arena:
        await arena.add("dispatcher", 2, DISPATCHER_TRIM_EVERY="500ms")
        archivers = await arena.add("archiver", ARCHIVERS, module="services.archiver", **QUICK)
        await arena.add("fault_async")
        await arena.add("fault_sync")
        await arena.add_api(1)
        await arena.ready()

        async def trouble(published: asyncio.Event) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(kill_in_turn(arena, archivers, kills, seconds, published))
                group.create_task(_away(file, seconds / 3))

        played = await play(arena, events, seconds, trouble, strict=True, patience=120)
        began = time.monotonic()
        lost, doubled = await _compared(arena, file, played)
        row = played.row(NAME, len(arena.kills), time.monotonic() - began)
        row.lost, row.doubled = row.lost + len(lost), row.doubled + len(doubled)
        row.passed = row.passed and not lost and not doubled
        row.findings += [*lost, *doubled]
        return row


async def _away(file: Path, after: float) -> None:
    """Have the history locked by somebody else for a while."""
    await asyncio.sleep(after)

    def lock() -> None:
        with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(AWAY)
            connection.execute("ROLLBACK")

    await asyncio.to_thread(lock)


async def _compared(arena: Arena, file: Path, played: Played) -> tuple[list[str], list[str]]:
    """What Redis's append-only file says that ended, and is not in the history as it ended; and what is there twice."""
    facts = played.facts

    async def complete() -> bool:
        arena.look_for_dead()
        return not _missing(facts, file)

    try:
        await wait_until("all that ended is in the history", complete, seconds=CATCH_UP_SECONDS)
    except (TimeoutError, AssertionError):
        pass
    lost = _missing(facts, file)
    with closing(sqlite3.connect(file)) as connection:
        doubled = [
            f"{what} is there {number} times"
            for table, key in (("events", "source || ' ' || id"), ("tasks", "id"))
            for what, number in connection.execute(
                f"SELECT {key}, count(*) FROM {table} GROUP BY 1 HAVING count(*) > 1"
            )
        ]
    return lost, doubled


def _missing(facts: Facts, file: Path) -> list[str]:
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        rows = connection.execute("SELECT source, id, state, ended FROM events")
        events = {(source, id): (state, at) for source, id, state, at in rows}
        tasks = dict(connection.execute("SELECT id, state FROM tasks"))
    lost = []
    for identity in facts.stored:
        state, at = events.get(identity, ("nowhere", None))
        if at is None:
            lost.append(f"event {identity} has ended and is {state} in the history")
    for task, ends in facts.ended.items():
        if tasks.get(task) != ends[-1][1]:
            lost.append(f"task {task} is {ends[-1][1]} and in the history {tasks.get(task)}")
    return lost
