"""Runs of durable handlers that wait, in a subscription with limits: they give their places away and take a turn again."""

from __future__ import annotations

from streammesh import lua
from streammesh.durable.calls import DurableCalls, SignalAnswer
from streammesh.tasks.settlement import cancel_call

from tests.harness.flow_moves import places, promote, run, states, suspend, tend, three


async def wake(moves, moved, name="w"):
    calls = DurableCalls(moves.keys, moves.settings)
    return await lua.run(moves.redis, calls.signal(await moves.row(moved), name, b"1"))


async def woken_in_line(moves):
    """Three runs of one key: the first waited, and was woken while the second had the place."""
    first, second, third = await three(moves)
    await run(moves, first)
    assert await suspend(moves, first) == "done"
    assert await states(moves, first, second, third) == ["waiting", "queued", "pending"]
    assert await wake(moves, first) is SignalAnswer.DONE
    assert await states(moves, first, second, third) == ["pending", "queued", "pending"]
    return first, second, third


async def test_a_run_that_waits_gives_its_place_away_and_takes_its_turn_again_when_it_is_woken(flowing):
    moves = await flowing(concurrency=1)
    first, second, third = await woken_in_line(moves)
    assert await suspend(moves, first) == "done", "its repeat after a lost reply"
    assert await wake(moves, first) is SignalAnswer.KNOWN
    assert await places(moves) == [second.ref.task_id]

    await run(moves, second)
    await moves.succeed(second, 1)
    assert await states(moves, first, third) == ["queued", "pending"], "it is before younger ones of its key"
    claim = await run(moves, first)
    assert (claim.attempt, b"step:signal:w" in claim.row) == (2, True)
    await moves.succeed(first, 2)
    assert await places(moves) == [third.ref.task_id]


async def test_a_run_whose_time_is_over_while_others_have_the_places_stands_in_line(flowing):
    moves = await flowing(concurrency=1)
    first, second, _ = await three(moves)
    await run(moves, first)
    await suspend(moves, first)
    await promote(moves)
    assert await states(moves, first) == ["pending"]
    assert await places(moves) == [second.ref.task_id]


async def test_a_woken_run_can_be_cancelled_in_line(flowing):
    moves = await flowing(concurrency=1)
    first, second, third = await woken_in_line(moves)
    call = cancel_call(moves.keys, moves.settings, await moves.row(first))
    assert (await lua.run(moves.redis, call)).answer == "done"
    await run(moves, second)
    await moves.succeed(second, 1)
    assert await states(moves, first, third) == ["cancelled", "queued"]
    assert await places(moves) == [third.ref.task_id]


async def test_a_woken_run_whose_worker_is_killed_keeps_its_place_for_the_next_worker(flowing):
    moves = await flowing(concurrency=1)
    first, second, third = await woken_in_line(moves)
    await run(moves, second)
    await moves.succeed(second, 1)
    assert (await run(moves, first)).attempt == 2
    assert (await moves.claim(first)).attempt == 3, "another worker has its queue entry now"
    assert await suspend(moves, first, 2, "again") == "lost", "the first was only slow"
    assert await places(moves) == [first.ref.task_id]
    assert await suspend(moves, first, 3, "again") == "done"
    assert await places(moves) == [third.ref.task_id]


async def test_with_order_a_run_that_waits_keeps_its_place_and_goes_on_at_once(flowing):
    moves = await flowing(order=True)
    first, second, _ = await three(moves)
    await run(moves, first)
    await suspend(moves, first)
    assert await states(moves, first, second) == ["waiting", "pending"]
    await tend(moves, places_from=b"-", line_from=b"-")
    await wake(moves, first)
    assert await states(moves, first, second) == ["queued", "pending"]
