"""A task that waits long lies in the due set packed, and goes on as it was."""

from __future__ import annotations

import pytest
from streammesh import lua
from streammesh.durable.calls import DurableCalls
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.records import Rows
from streammesh.tasks.settlement import cancel_call

from tests.harness.moves import Moves

HOUR = 3600


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    found = Moves(mesh_redis, mesh_keys, mesh_settings)
    await found.join()
    return found


async def asleep(moves, seconds=HOUR, data=None):
    """A task that sleeps, its queue entry, and what lies in the due set of it."""
    moved = await moves.hand_over("run", data or {"text": 'a "quoted" ü'})
    queue = moves.keys.queue(moved.place.queue, moved.place.priority)
    [(_, fields)] = await moves.redis.xrange(queue)
    await moves.deliver()
    attempt = (await moves.claim(moved)).attempt
    before = await moves.row(moved)
    calls = DurableCalls(moves.keys, moves.settings)
    call = calls.suspend(moved.ref, moved.place, attempt, 1, "w", seconds, {"for": "time"}, "")
    assert await lua.run(moves.redis, call) == "done"
    kept = await moves.redis.hget(moves.keys.due_entries(), f"task:{moved.ref.task_id}")
    return moved, queue, fields, kept, before


async def test_its_queue_entry_comes_back_byte_for_byte_when_its_time_has_come(moves):
    moved, queue, fields, kept, _ = await asleep(moves)
    assert kept.startswith(b"P") and len(kept) < len(fields[b"h"] + fields[b"b"])
    due = DueSet(moves.redis, moves.keys)
    assert await due.promote(await due.now_ms() + HOUR * 1000 + 1) == 1
    assert [entry for _, entry in await moves.redis.xrange(queue)] == [fields]
    assert (await moves.row(moved)).state == "queued"
    assert await moves.redis.hlen(moves.keys.due_entries()) == 0


async def test_a_signal_brings_it_back_byte_for_byte(moves):
    moved, queue, fields, _, _ = await asleep(moves)
    calls = DurableCalls(moves.keys, moves.settings)
    await moves.redis.hset(moves.keys.task(moved.ref.task_id), "waiting", "signal:w")
    assert await lua.run(moves.redis, calls.signal(await moves.row(moved), "w", b"true")) == "done"
    assert [entry for _, entry in await moves.redis.xrange(queue)] == [fields]


async def test_its_row_says_what_it_said(moves):
    moved, _, _, _, before = await asleep(moves)
    row = await moves.row(moved)
    assert (row.event, row.name, row.times_ms["queued"]) == (
        before.event,
        before.name,
        before.times_ms["queued"],
    )
    assert row.next_attempt_at is not None and row.state == "waiting"
    assert (await moves.claim(moved)).verdict == "held"


async def test_it_is_cancelled_like_any_other(moves):
    moved, *_ = await asleep(moves)
    row = await moves.row(moved)
    await lua.run(moves.redis, cancel_call(moves.keys, moves.settings, row))
    assert (await moves.row(moved)).state == "cancelled"
    assert await moves.redis.exists(moves.keys.due(), moves.keys.due_entries()) == 0


@pytest.mark.parametrize("data", [{"text": "\x7f"}, {"text": "a" * 1000}])
async def test_what_cannot_be_packed_waits_as_it_is(moves, data):
    _, queue, fields, _, _ = await asleep(moves, data=data)
    due = DueSet(moves.redis, moves.keys)
    await due.promote(await due.now_ms() + HOUR * 1000 + 1)
    assert [entry for _, entry in await moves.redis.xrange(queue)] == [fields]


async def test_a_short_wait_is_not_packed(moves):
    *_, kept, _ = await asleep(moves, seconds=5)
    assert kept.startswith(b"{")


@pytest.mark.parametrize("garbage", [b"P", b"Pqueue\nno body", b"P\nh\nb", b"P\xff\nh\nb\n"])
async def test_a_packed_entry_that_cannot_be_read_is_left_to_the_reconciler(moves, garbage):
    moved, *_ = await asleep(moves)
    await moves.redis.hset(moves.keys.due_entries(), f"task:{moved.ref.task_id}", garbage)
    due = DueSet(moves.redis, moves.keys)
    assert await due.promote(await due.now_ms() + HOUR * 1000 + 1) == 0
    assert await moves.redis.exists(moves.keys.due(), moves.keys.due_entries()) == 0
    assert len(await Rows(moves.redis, moves.keys).tasks([moved.ref.task_id])) == 1
