"""An entry that is given up by the transport: where it stands for a delivery, that ends with it."""

from __future__ import annotations

import pytest
from streammesh import lua
from streammesh.dead_letters import DeadLetterFilter, DeadLetters
from streammesh.errors import Malformed
from streammesh.tasks.settlement import cancel_call
from streammesh.tasks.task import Failure
from streammesh.transport.admission import count
from streammesh.transport.poison import park, put_back
from streammesh.transport.scripts import QueueCalls, Read

from tests.harness.moves import SERVICE, Moves


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    return moves


@pytest.fixture
def give_up(mesh_redis_sync, mesh_keys):
    def give_up(entry):
        stream = mesh_keys.queue(SERVICE)
        [(_, fields)] = mesh_redis_sync.xrange(stream, entry, entry)
        calls = QueueCalls(mesh_keys, "w", 1000, 10, 100)
        park(mesh_redis_sync, calls, SERVICE, Read(stream, entry, 11, fields), Failure("too often", "Poison"))

    return give_up


@pytest.fixture
def letters(mesh_redis, mesh_keys):
    return DeadLetters(mesh_redis, mesh_keys)


def named(moves, moved):
    """The queue entry says whose it is, as one that Celery's publisher made."""
    head = b'{"headers":{"id":"%b"}}' % moved.ref.task_id.encode()
    return moves.redis.xadd(moves.keys.queue(SERVICE), {"h": head, "b": b"[[],{},{}]"})


async def replace_entry(moves, moved):
    entry = (await named(moves, moved)).decode()
    await moves.redis.xdel(moves.keys.queue(SERVICE), moved.place.entry)
    await moves.redis.hset(moves.keys.task(moved.ref.task_id), "entry", entry)
    await moves.deliver()
    return entry


async def test_a_deliverys_entry_fails_the_delivery(moves, give_up, letters):
    moved = await moves.hand_over("e1")
    entry = await replace_entry(moves, moved)
    give_up(entry)

    row = await moves.row(moved)
    letter = await letters.get(moved.ref.task_id)
    assert (row.state, row.error) == ("failed", {"reason": "too often", "kind": "Poison"})
    assert (letter.form, letter.reason) == ("task", "too often")
    assert (await moves.told())[-2:] == ["task.failed", "event.completed"]
    assert await moves.redis.xlen(moves.keys.queue(SERVICE)) == 0


async def test_a_deliverys_row_follows_an_entry_that_is_put_back_until_it_is_given_up(
    moves, mesh_keys, mesh_redis_sync
):
    moved = await moves.hand_over("e1")
    before = await replace_entry(moves, moved)
    stream, calls = mesh_keys.queue(SERVICE), QueueCalls(mesh_keys, "w", 1000, 2, 100)
    put_back(mesh_redis_sync, calls, SERVICE, stream, before)

    after = (await moves.row(moved)).entry
    assert after != before
    assert [position.decode() for position, _ in await moves.redis.xrange(stream)] == [after]

    await moves.deliver()
    put_back(mesh_redis_sync, calls, SERVICE, stream, after)
    row = await moves.row(moved)
    assert (row.state, row.error["kind"]) == ("failed", "Poison")
    assert (await moves.told())[-2:] == ["task.failed", "event.completed"]


async def test_an_old_copy_of_an_entry_does_not_end_the_delivery(moves, give_up, letters):
    moved = await moves.hand_over("e1")
    copy = (await named(moves, moved)).decode()
    await moves.deliver()
    give_up(copy)

    assert (await moves.row(moved)).state == "queued"
    [letter] = (await letters.page(DeadLetterFilter())).letters
    assert (letter.form, letter.kind) == ("entry", "Poison")


async def test_one_that_is_wanted_cancelled_ends_so(moves, give_up, letters):
    moved = await moves.hand_over("e1")
    moved.place = type(moved.place)(SERVICE, entry=await replace_entry(moves, moved))
    await moves.claim(moved)
    await lua.run(moves.redis, cancel_call(moves.keys, moves.settings, await moves.row(moved)))
    give_up(moved.place.entry)

    assert (await moves.row(moved)).state == "cancelled"
    assert await letters.get(moved.ref.task_id) is None


@pytest.mark.parametrize("times", [b"9" * 30, b"1e300", b"nan", b"-5", b"soon"])
async def test_a_count_of_deliveries_that_is_none_gives_its_entry_up_and_nothing_breaks(
    times, moves, letters, mesh_keys, mesh_redis_sync
):
    stream = mesh_keys.queue(SERVICE)
    entry = mesh_redis_sync.xadd(stream, {"h": b"{}", "b": b"[]", "n": times}).decode()
    await moves.deliver()
    calls = QueueCalls(mesh_keys, "w", 1000, 10, 100)
    put_back(mesh_redis_sync, calls, SERVICE, stream, entry)

    [(_, fields)] = mesh_redis_sync.xrange(stream) or [(b"", {b"n": b"0"})]
    assert int(fields[b"n"]) <= 1_000_000
    with pytest.raises(Malformed):
        count(times)


def test_a_count_of_deliveries_is_read_as_it_was_written():
    assert count(b"0") == 0 and count(b"12") == 12
