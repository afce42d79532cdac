"""Flow control, script by script: who has a place, who waits in line, and whose turn is next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from streammesh import lua
from streammesh.flow.limits import Flow
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.settlement import Ending, cancel_call
from streammesh.tasks.task import Failure, Holder

from tests.harness.moves import BILL, Moves

NO_LUCK = Failure("no luck", "RuntimeError")


@pytest.fixture
def flowing(mesh_redis, mesh_keys, mesh_settings):
    """Moves of a service whose subscription has these limits."""

    async def made(**limits):
        moves = Moves(mesh_redis, mesh_keys, mesh_settings, replace(BILL, flow=Flow(**limits)))
        await moves.join()
        return moves

    return made


async def states(moves, *moved):
    return [(await moves.row(one)).state.value for one in moved]


async def run(moves, moved):
    """Begin a task that was queued."""
    moved.place = await moves.place(moved.ref.task_id)
    await moves.deliver()
    return await moves.claim(moved)


async def leftovers(moves):
    """What is left of the flow but its limits."""
    _, *rest = moves.keys.of_a_flow(BILL.task)
    return [key for key in rest if await moves.redis.exists(key)]


async def test_of_one_key_so_many_start_and_the_end_of_one_starts_the_next(flowing):
    moves = await flowing(key="data.tenant", concurrency=2)
    a = [await moves.hand_over(f"a{n}", {"tenant": "a"}) for n in range(4)]
    b = await moves.hand_over("b", {"tenant": "b"})
    assert await states(moves, *a, b) == ["queued", "queued", "pending", "pending", "queued"]
    assert (await moves.told()).count("task.pending") == 2

    await run(moves, a[0])
    await moves.succeed(a[0], 1)
    assert await states(moves, *a) == ["succeeded", "queued", "queued", "pending"]
    for one in (b, *a[1:]):
        await run(moves, one)
        await moves.succeed(one, 1)
    assert await leftovers(moves) == []


async def test_a_repeated_end_frees_one_place(flowing):
    moves = await flowing(key="data.tenant", concurrency=1)
    first, second, third = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]
    await run(moves, first)
    for _ in range(2):
        await moves.succeed(first, 1)
    assert await states(moves, second, third) == ["queued", "pending"]


async def test_keys_take_turns_for_the_places_of_all(flowing):
    moves = await flowing(key="data.tenant", concurrency=9, total=1, fair=True)
    flood = [await moves.hand_over(f"a{n}", {"tenant": "a"}) for n in range(5)]
    single = await moves.hand_over("b", {"tenant": "b"})
    for one in flood[:2]:
        await run(moves, one)
        await moves.succeed(one, 1)
    assert await states(moves, single, *flood[2:]) == ["queued", "pending", "pending", "pending"]


async def test_without_turns_the_first_that_came_is_the_first_to_start(flowing):
    moves = await flowing(key="data.tenant", total=1)
    flood = [await moves.hand_over(f"a{n}", {"tenant": "a"}) for n in range(3)]
    single = await moves.hand_over("b", {"tenant": "b"})
    for one in flood[:2]:
        await run(moves, one)
        await moves.succeed(one, 1)
    assert await states(moves, flood[2], single) == ["queued", "pending"]


async def test_a_retry_gives_its_place_to_others_and_takes_its_turn_when_it_is_due(flowing):
    moves = await flowing(key="data.tenant", concurrency=1)
    first, second, third = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]
    await run(moves, first)
    await lua.run(moves.redis, moves.ledger.retry_later(first.ref, first.place, 1, timedelta(0), NO_LUCK))
    assert await states(moves, first, second, third) == ["retrying", "queued", "pending"]

    due = DueSet(moves.redis, moves.keys)
    await due.promote(await due.now_ms() + 1)
    assert await states(moves, first, second, third) == ["pending", "queued", "pending"]
    await run(moves, second)
    await moves.succeed(second, 1)
    assert await states(moves, first, third) == ["queued", "pending"], "the older one is first in line"
    assert (await run(moves, first)).attempt == 2


async def test_in_order_the_next_starts_when_the_one_before_has_ended_over_its_retries(flowing):
    moves = await flowing(key="data.tenant", order=True)
    first, second = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(2)]
    await run(moves, first)
    await lua.run(moves.redis, moves.ledger.retry_later(first.ref, first.place, 1, timedelta(0), NO_LUCK))
    due = DueSet(moves.redis, moves.keys)
    await due.promote(await due.now_ms() + 1)
    assert await states(moves, first, second) == ["queued", "pending"]
    await run(moves, first)
    await moves.fail(first, 2)
    assert await states(moves, first, second) == ["failed", "queued"]


@pytest.mark.parametrize("end", ["cancelled", "removed"])
async def test_what_waits_in_line_can_end_there(flowing, end):
    moves = await flowing(key="data.tenant", concurrency=1)
    first, second, third = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]
    if end == "cancelled":
        call = cancel_call(moves.keys, moves.settings, await moves.row(second))
        assert (await lua.run(moves.redis, call)).answer == "done"
    else:
        assert await moves.end(second, Holder.ANYBODY, Ending.cancelled()) == "done"
    await run(moves, first)
    await moves.succeed(first, 1)
    assert await states(moves, second, third) == ["cancelled", "queued"]
    row = await moves.redis.hgetall(moves.keys.task(second.ref.task_id))
    assert not {b"h", b"b", b"to"} & set(row)


async def test_a_paused_subscription_starts_nothing_and_keeps_its_line(flowing):
    moves = await flowing(key="data.tenant", concurrency=1)
    first = await moves.hand_over("e1", {"tenant": "a"})
    await moves.redis.hset(moves.keys.paused(), BILL.task, "{}")
    second, other = [await moves.hand_over(f"x{t}", {"tenant": t}, frozenset([BILL.task])) for t in "ab"]
    assert await states(moves, first, second, other) == ["queued", "pending", "pending"]


async def test_the_higher_priority_is_first_in_line(flowing):
    """Within one key; the queue's streams order what has started."""
    moves = await flowing(key="data.tenant", concurrency=1)
    _, late = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(2)]
    field = await moves.redis.hget(moves.keys.task(late.ref.task_id), "flow")
    name, key, rank = field.split(b"\0")
    assert (name.decode(), key, rank[:1]) == (BILL.task, b"a", b"4")
