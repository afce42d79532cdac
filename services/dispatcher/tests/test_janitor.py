"""The janitor queues again what lies nowhere, and leaves alone what lies somewhere."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streammesh import lua
from streammesh.clock import SystemClock
from streammesh.tasks.handoff import Encoded
from streammesh.tasks.task import Failure

from services.dispatcher.reconciler import Janitor
from services.dispatcher.settings import DispatcherSettings
from tests.harness.moves import SERVICE, Moved, Moves

OWN = DispatcherSettings(_env_file=None)
AT_ONCE = OWN.model_copy(update={"janitor_after": timedelta(seconds=-1)})  # also what is of this very moment


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    return moves


@pytest.fixture
def janitor(mesh_redis, mesh_keys, mesh_settings):
    def encode(delivery, raw, priority):
        return Encoded(delivery, mesh_keys.queue(SERVICE), (b'{"headers":{}}',), b"[[%b],{},{}]" % raw)

    def make(own=AT_ONCE):
        return Janitor(mesh_redis, mesh_keys, mesh_settings, own, encode, SystemClock())

    return make


async def started(moves, event_id="e1"):
    moved = await moves.hand_over(event_id)
    await moves.deliver()
    await moves.claim(moved)
    return moved


async def retrying(moves, moved):
    call = moves.ledger.retry_later(
        moved.ref, moved.place, 1, timedelta(hours=1), Failure("no luck", "RuntimeError")
    )
    assert await lua.run(moves.redis, call) == "done"


async def test_what_lies_where_it_should_is_left_alone(moves, janitor):
    await moves.hand_over("queued")
    await moves.hand_over("held", paused=frozenset(["billing.bill"]))
    await retrying(moves, await started(moves, "retrying"))
    workflow = await started(moves, "workflow")
    await lua.run(moves.redis, moves.ledger.start_workflow(workflow.ref, workflow.place, 1, "w", []))
    before = await moves.told()

    assert await janitor().look() == 0
    assert await moves.told() == before


async def test_a_queued_task_whose_queue_was_deleted_runs_once(moves, janitor):
    moved = await moves.hand_over("e1")
    await moves.redis.delete(moves.keys.queue(SERVICE))
    await moves.redis.xgroup_create(moves.keys.queue(SERVICE), "workers", "0", mkstream=True)

    assert await janitor().look() == 1
    assert await janitor().look() == 0
    again = Moved(moved.ref, await moves.place(moved.ref.task_id))
    assert await moves.deliver() == [again.place.entry]
    assert (await moves.claim(again)).attempt == 1
    assert await moves.succeed(again, 1) == "done"
    assert (await moves.told()).count("task.succeeded") == 1


async def test_a_running_task_whose_entry_is_gone_is_given_to_another_and_one_of_them_counts(moves, janitor):
    moved = await started(moves)
    await moves.redis.delete(moves.keys.queue(SERVICE))
    await moves.redis.xgroup_create(moves.keys.queue(SERVICE), "workers", "0", mkstream=True)
    assert await janitor().look() == 1
    again = Moved(moved.ref, await moves.place(moved.ref.task_id))
    await moves.deliver()

    assert (await moves.claim(again)).attempt == 2
    assert await moves.succeed(moved, 1) == "lost"
    assert await moves.succeed(again, 2) == "done"


async def test_a_retry_whose_place_in_the_due_set_is_gone_is_queued(moves, janitor):
    await retrying(moves, await started(moves))
    await moves.redis.delete(moves.keys.due(), moves.keys.due_entries())
    # It should have been due in an hour; the janitor waits as long.
    assert await janitor().look() == 0
    task = (await moves.redis.zrange(moves.keys.open_tasks(SERVICE), 0, -1))[0].decode()
    await moves.redis.hset(moves.keys.task(task), "due", "1000")

    assert await janitor().look() == 1
    assert await moves.redis.hget(moves.keys.task(task), "state") == b"queued"


async def test_a_young_task_is_given_time(moves, janitor):
    await moves.hand_over("e1")
    await moves.redis.delete(moves.keys.queue(SERVICE))

    assert await janitor(OWN).look() == 0


async def test_a_task_whose_event_is_gone_too_is_a_dead_letter(moves, janitor):
    moved = await moves.hand_over("e1")
    await moves.redis.delete(moves.keys.queue(SERVICE), moves.keys.events("order"))

    assert await janitor().look() == 0
    row = await moves.row(moved)
    assert (row.state, row.error["kind"]) == ("failed", "Vanished")
    assert (await moves.told())[-2:] == ["task.failed", "event.completed"]


async def test_the_list_of_open_tasks_is_tidied(moves, janitor, mesh_redis, mesh_keys):
    await mesh_redis.zadd(mesh_keys.open_tasks(SERVICE), {f"gone-{n}": 1000 + n % 3 for n in range(500)})
    moved = await moves.hand_over("e1")

    await janitor().look()

    assert await mesh_redis.zrange(mesh_keys.open_tasks(SERVICE), 0, -1) == [moved.ref.task_id.encode()]
