"""The wish to cancel stands in the task's row: whatever a worker does next, it ends as cancelled, once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streammesh import lua
from streammesh.tasks.settlement import Ending, cancel_call
from streammesh.tasks.task import Failure, Holder

from tests.harness.moves import SERVICE, Moves

FAILURE = Failure("no luck", "RuntimeError")


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    return moves


async def cancel(moves, moved):
    call = cancel_call(moves.keys, moves.settings, await moves.row(moved))
    return await lua.run(moves.redis, call)


@pytest.fixture
async def running(moves):
    """A task that runs and is wanted cancelled."""
    moved = await moves.hand_over("e1")
    await moves.deliver()
    claim = await moves.claim(moved)
    assert (await cancel(moves, moved)).answer == "asked"
    return moved, claim.attempt


async def test_a_dead_workers_task_is_ended_by_who_takes_it_over(moves, running):
    moved, _ = running

    claim = await moves.claim(moved)

    assert (claim.verdict, await moves.end(moved, Holder.ANYBODY, Ending.cancelled())) == (
        "cancelled",
        "done",
    )
    assert (await moves.told())[-2:] == ["task.cancelled", "event.completed"]
    assert (await moves.claim(moved)).verdict == "ended"
    assert await moves.redis.zcard(moves.keys.open_tasks(SERVICE)) == 0


async def test_a_failed_attempt_is_neither_tried_again_nor_a_dead_letter(moves, running):
    moved, attempt = running
    later = moves.ledger.retry_later(moved.ref, moved.place, attempt, timedelta(seconds=1), FAILURE)

    assert await lua.run(moves.redis, later) == "cancelled"
    assert await moves.fail(moved, attempt) == "done"
    assert await moves.fail(moved, attempt) == "done"  # its answer was lost, say
    assert (await moves.row(moved)).state == "cancelled"
    assert (await moves.told()).count("task.cancelled") == 1
    assert await moves.redis.exists(moves.keys.dead(SERVICE), moves.keys.due()) == 0


async def test_a_workflow_is_not_begun(moves, running):
    moved, attempt = running
    call = moves.ledger.start_workflow(
        moved.ref, moved.place, attempt, "w", [(moves.keys.queue(SERVICE), b"h", b"b")]
    )

    assert await lua.run(moves.redis, call) == "cancelled"
    assert await moves.redis.xlen(moves.keys.queue(SERVICE)) == 1  # the delivery's own entry


async def test_a_handler_that_was_quicker_has_succeeded(moves, running):
    moved, attempt = running

    assert await moves.succeed(moved, attempt, "quick") == "done"
    assert (await cancel(moves, moved)).state == "succeeded"
    assert (await moves.row(moved)).result == "quick"


async def test_a_workflow_ends_at_once_and_its_end_comes_too_late(moves):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    attempt = (await moves.claim(moved)).attempt
    await lua.run(moves.redis, moves.ledger.start_workflow(moved.ref, moved.place, attempt, "w", []))

    assert (await cancel(moves, moved)) == ("done", "cancelled")
    assert await moves.succeed(moved, attempt) == "ended"
    assert (await moves.told()).count("task.cancelled") == 1
    assert await moves.redis.hexists(moves.keys.task(moved.ref.task_id), "h") is False


async def test_a_task_that_is_set_aside_leaves_where_it_waits(moves):
    moved = await moves.hand_over("e1", paused=frozenset(["billing.bill"]))
    held = moves.keys.held("billing.bill")

    assert ((await moves.row(moved)).state, await moves.redis.xlen(held)) == ("held", 1)
    assert (await cancel(moves, moved)) == ("done", "cancelled")
    assert await moves.redis.xlen(held) == 0
