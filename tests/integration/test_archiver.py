"""The archiver on real servers: what ended is in the history once, and leaves Redis; nothing leaves before that."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta

import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from streammesh import lua
from streammesh.clock import SystemClock
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.dead_letters.replay import Replaying
from streammesh.errors import EventConflict
from streammesh.events.envelope import build
from streammesh.events.publisher import Publisher
from streammesh.history.engine import said
from streammesh.history.rows import day_of
from streammesh.history.schema import events, letters, tasks
from streammesh.history.store import HistoryStore
from streammesh.identity import identity_of, recent_parts

from services.archiver.archiver import Archiver
from services.archiver.keepers import Keepers
from services.archiver.settings import ArchiverSettings
from services.archiver.stream_group import StreamGroup
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.trimmer import Trimmer
from tests.harness.moves import Moves
from tests.harness.postgres import Postgres, folder_of_programs

HOT = timedelta(seconds=30)
QUICK = ArchiverSettings(_env_file=None, linger="0s", reclaim_idle="100ms", look_every="1h")


@pytest.fixture(scope="module")
def postgres():
    if folder_of_programs() is None:
        pytest.skip("no PostgreSQL here")
    with Postgres() as server:
        yield server


@pytest.fixture
def settings(mesh_settings, tmp_path):
    return mesh_settings.model_copy(update={"history_url": f"sqlite:///{tmp_path}/history.db", "hot": HOT})


@pytest.fixture
def store(settings):
    store = HistoryStore(settings.history_url)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
async def moves(mesh_redis, mesh_keys, settings):
    moves = Moves(mesh_redis, mesh_keys, settings)
    await moves.join()
    return moves


def archiver(moves, store, name="archiver@test:1") -> Archiver:
    group = StreamGroup(moves.redis, moves.redis, name, timedelta(seconds=3))
    return Archiver(moves.redis, group, moves.keys, moves.settings, QUICK, store)


def keepers(moves, store) -> Keepers:
    return Keepers(moves.redis, moves.keys, moves.settings, QUICK, store)


def rows(store, table):
    with store.engine.connect() as connection:
        return connection.execute(sa.select(table).order_by(table.c.id)).all()


async def run(moves, event_id, fail=False, data=None):
    """Publish an event and end its one task."""
    moved = await moves.hand_over(event_id, data)
    await moves.deliver()
    attempt = (await moves.claim(moved)).attempt
    await (moves.fail(moved, attempt) if fail else moves.succeed(moved, attempt, {"billed": event_id}))
    return moved


async def test_what_ended_is_in_the_history_and_leaves_redis_when_it_has_been_hot(moves, store):
    moved = await run(moves, "e1", data={"n": 7})
    row, task = moves.keys.event("e1"), moves.keys.task(moved.ref.task_id)
    assert await moves.redis.pttl(task) > 3_600_000, "an archiver that is away for hours loses nothing"

    await archiver(moves, store).run_once()

    [event], [kept] = rows(store, events), rows(store, tasks)
    assert (event.id, event.source, event.type, event.state) == ("e1", "tests", "order.placed", "completed")
    assert (event.wanted, event.done, event.failed) == (1, 1, 0)
    assert '"n":7' in event.envelope
    assert (kept.id, kept.state, kept.attempt, kept.name) == (
        moved.ref.task_id,
        "succeeded",
        1,
        "billing.bill",
    )
    assert kept.outcome == '{"result":{"billed":"e1"}}'
    assert kept.day == event.day == day_of(event.at)
    assert 0 < await moves.redis.pttl(row) <= HOT.total_seconds() * 1000
    assert 0 < await moves.redis.pttl(task) <= HOT.total_seconds() * 1000


async def test_a_task_is_kept_by_the_day_of_its_event_and_with_its_story(moves, store):
    """A task that ends after midnight is counted with its event, which was published the day before."""
    moved = await run(moves, "e1")
    task = moves.keys.task(moved.ref.task_id)
    meta = orjson.loads(await moves.redis.hget(task, "meta"))
    yesterday = int(meta["event"]["entry"].partition("-")[0]) - 86_400_000
    meta["event"] |= {"entry": f"{yesterday}-0", "correlation": "the-story"}
    await moves.redis.hset(task, "meta", orjson.dumps(meta))

    await archiver(moves, store).run_once()

    [kept] = rows(store, tasks)
    assert (kept.day, kept.correlation) == (day_of(yesterday), "the-story")


async def test_an_event_that_ends_after_it_was_archived_is_brought_up_to_date(moves, store):
    moved = await moves.hand_over("e1")
    await archiver(moves, store).run_once()
    assert rows(store, events)[0].state == "running"
    assert await moves.redis.pttl(moves.keys.event("e1")) > HOT.total_seconds() * 1000

    await moves.deliver()
    await moves.fail(moved, (await moves.claim(moved)).attempt)
    await archiver(moves, store).run_once()

    assert [(one.state, one.done, one.failed) for one in rows(store, events)] == [("failed", 1, 1)]
    assert await moves.redis.pttl(moves.keys.event("e1")) <= HOT.total_seconds() * 1000


async def test_an_event_that_ends_without_a_task_is_found_by_the_look_at_open_ones(moves, store):
    await Publisher(moves.redis, moves.keys, moves.settings, "tests").publish("user.left", {}, id="u1")
    await archiver(moves, store).run_once()
    assert rows(store, events)[0].state == "waiting"

    await moves.redis.hset(moves.keys.event("u1"), mapping={"want:tests": 0})
    assert await keepers(moves, store).end_events() == 1

    assert rows(store, events)[0].state == "unrouted"
    assert await moves.redis.pttl(moves.keys.event("u1")) <= HOT.total_seconds() * 1000


async def test_a_killed_archiver_writes_again_and_two_write_once(moves, store, monkeypatch):
    for n in range(5):
        await run(moves, f"e{n}")
    first = archiver(moves, store, "first")
    with monkeypatch.context() as patched:  # it is killed after the history has it, and before Redis knows
        patched.setattr(lua, "run", killed)
        with pytest.raises(KilledError):
            await first.run_once()
    assert len(rows(store, events)) == 5

    await asyncio.sleep(0.11)
    await asyncio.gather(*(archiver(moves, store, name).run_once() for name in ("second", "third")))

    assert len(rows(store, events)) == len(rows(store, tasks)) == 5
    for stream in (moves.keys.events("order"), moves.keys.tasks_recent()):
        groups = await moves.redis.xinfo_groups(stream)
        assert [one["pending"] for one in groups if one["name"] == b"_archiver"] == [0]


class KilledError(Exception):
    """As far as a process gets."""


async def killed(*_):
    raise KilledError


async def test_redis_keeps_what_the_archiver_has_not_had_however_old_it_is(moves, store):
    moves.settings = moves.settings.model_copy(update={"hot": timedelta(milliseconds=100)})
    await run(moves, "e1")
    stream = moves.keys.events("order")
    await moves.redis.xack(stream, "billing", *[at for at, _ in await moves.redis.xrange(stream)])
    trimmer = Trimmer(
        moves.redis, moves.keys, moves.settings, DispatcherSettings(_env_file=None), SystemClock()
    )
    await asyncio.sleep(0.12)

    [kept] = await trimmer.run_once()
    assert (kept.left, kept.kept_by) == (1, "_archiver")
    assert await moves.redis.xlen(moves.keys.tasks_recent()) == 1

    await archiver(moves, store).run_once()
    [kept] = await trimmer.run_once()
    assert (kept.left, kept.kept_by) == (0, None)
    assert await moves.redis.xlen(moves.keys.tasks_recent()) == 0


async def test_an_event_whose_row_left_is_a_duplicate_still_and_with_other_content_a_conflict(moves, store):
    await run(moves, "e1")
    await archiver(moves, store).run_once()
    await moves.redis.delete(moves.keys.event("e1"))
    publisher = Publisher(moves.redis, moves.keys, moves.settings, "tests")

    assert (await publisher.publish("order.placed", {"n": 1}, id="e1")).duplicate
    with pytest.raises(EventConflict):
        await publisher.publish("order.placed", {"n": 2}, id="e1")
    assert not (await publisher.publish("order.placed", {"n": 1}, id="e2")).duplicate


async def test_half_an_identity_that_coincides_refuses_no_honest_event(moves):
    event = build("tests", "order.placed", {"n": 1}, id="honest")
    window = moves.settings.dedup_window
    bucket, name, _ = identity_of("tests", "honest", event.digest())
    part = recent_parts(time.time() * 1000, window)[-1]
    await moves.redis.sadd(moves.keys.identity(part, bucket), name, 12345)

    [published] = await Publisher(moves.redis, moves.keys, moves.settings, "tests").publish_events([event])

    assert not published.duplicate


async def test_a_task_that_is_replayed_meanwhile_keeps_its_row_and_ends_once_more(moves, store):
    moved = await run(moves, "e1", fail=True)
    await archiver(moves, store).run_once()
    await keepers(moves, store).copy_letters()
    store_letters = DeadLetters(moves.redis, moves.keys)
    [letter], _ = await store_letters.matching(DeadLetterFilter(), 10)
    await Replaying(moves.redis, moves.keys, moves.settings).replay([letter])
    assert await moves.redis.pttl(moves.keys.task(moved.ref.task_id)) == -1

    await moves.deliver()
    moved.place = await moves.place(moved.ref.task_id)
    await moves.succeed(moved, (await moves.claim(moved)).attempt)
    await archiver(moves, store).run_once()

    assert [one.state for one in rows(store, tasks)] == ["succeeded"]
    assert [(one.state, one.failed) for one in rows(store, events)] == [("completed", 0)]
    assert [one.id for one in rows(store, letters)] == [moved.ref.task_id], "its past as a dead letter stays"


async def test_garbage_in_the_streams_is_stepped_over(moves, store):
    moved = await run(moves, "e1")
    ended = await moves.redis.hgetall(moves.keys.task(moved.ref.task_id))
    await moves.redis.xadd(moves.keys.events("order"), {"e": b"\xff{"})
    await moves.redis.xadd(moves.keys.events("order"), {"x": "y"})
    await moves.redis.xadd(moves.keys.events("order"), {"e": b'{"id":{},"source":1,"type":null}'})
    await moves.redis.xadd(moves.keys.tasks_recent(), {"k": "nothing"})
    await moves.redis.set(moves.keys.task("odd"), "odd")
    await moves.redis.xadd(moves.keys.tasks_recent(), {"k": "odd"})
    huge = "9" * 30
    await moves.redis.hset(moves.keys.task("many"), mapping={**ended, b"attempt": huge})
    await moves.redis.xadd(moves.keys.tasks_recent(), {"k": "many"})
    row = moves.keys.event("odd")
    await moves.redis.hset(
        row, mapping={"at:tests": f"1 2 {'0' * 16} x", "want:tests": huge, "done:tests": huge}
    )
    await moves.redis.xadd(
        moves.keys.events("order"), {"e": b'{"id":"odd","source":"tests","type":"order.a"}'}
    )
    last = "1800000000000000000-18446744073709551615"  # no column holds it
    await moves.redis.xadd(
        moves.keys.events("order"), {"e": b'{"id":"e","source":"tests","type":"order.a"}'}, id=last
    )
    await moves.redis.sadd(moves.keys.domains(), "order")
    await archiver(moves, store).run_once()

    assert [one.id for one in rows(store, events)] == ["e1", "odd"]
    assert len(rows(store, tasks)) == 1


def test_a_history_of_another_version_or_that_cannot_be_opened_is_said_with_what_to_do(store, tmp_path):
    with store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'of_tomorrow'"))
    (tmp_path / "file").write_text("a file of another program, longer than the head of a database" * 10)
    places = {
        "history.db": "newer streammesh.*of_tomorrow",
        "": "a file in a folder",
        "file/history.db": "a file in a folder",
        "file": "a file that streammesh made",
    }
    for place, told in places.items():
        other = HistoryStore(f"sqlite:///{tmp_path}/{place}")
        with pytest.raises(SQLAlchemyError) as caught:
            other.migrate()
        assert re.search(told, said(caught.value)), place
        other.close()


async def test_a_group_that_was_deleted_is_made_anew_and_what_left_redis_stays_as_it_is_told(moves, store):
    await run(moves, "e1", fail=True)
    await moves.redis.sadd(moves.keys.domains(), "order")
    writer = archiver(moves, store)
    await writer.run_once()
    told = rows(store, events), rows(store, tasks)
    await moves.redis.delete(moves.keys.event("e1"), moves.keys.task(told[1][0].id))
    for stream in (moves.keys.events("order"), moves.keys.tasks_recent()):
        await moves.redis.xgroup_destroy(stream, "_archiver")
    assert [await writer.run_once() for _ in range(2)] == [0, 2]
    assert (rows(store, events), rows(store, tasks)) == told and told[0][0].state == "failed"


async def test_days_that_are_over_are_dropped(moves, store):
    await run(moves, "e1")
    await archiver(moves, store).run_once()
    today = rows(store, events)[0].day
    assert await keepers(moves, store).clear() == 0
    assert store.drop_before(today + 1) == 2
    assert rows(store, events) == rows(store, tasks) == []


async def test_in_postgresql_the_same_is_stored_once_and_days_are_partitions(moves, postgres):
    store = HistoryStore(postgres.url)
    store.migrate()
    store.migrate()
    try:
        moved = await moves.hand_over("e\u00fc 1", {"text": "a\u0000b \\ \t"})
        await archiver(moves, store).run_once()
        await moves.deliver()
        await moves.fail(moved, (await moves.claim(moved)).attempt, reason="no\u0000luck")
        await archiver(moves, store).run_once()
        await keepers(moves, store).run_once()
        await moves.redis.xgroup_setid(moves.keys.events("order"), "_archiver", "0")
        await moves.redis.xgroup_setid(moves.keys.tasks_recent(), "_archiver", "0")
        await archiver(moves, store, "again").run_once()

        assert [(one.id, one.state) for one in rows(store, events)] == [("e\u00fc 1", "failed")]
        assert [one.state for one in rows(store, tasks)] == ["failed"]
        assert len(rows(store, letters)) == 1
        today = rows(store, events)[0].day
        assert store.drop_before(today) == 0
        assert store.drop_before(today + 1) == 3, "one partition of each table"
        assert rows(store, events) == []
    finally:
        store.close()
