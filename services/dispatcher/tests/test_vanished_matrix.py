"""Whatever state a task is in and whatever of it has vanished, it comes to an end, once, and the log says which."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.clock import SystemClock
from streammesh.keys import WORKERS
from streammesh.names import ENDED
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.handoff import Encoded
from streammesh.tasks.pause import HeldTasks
from streammesh.tasks.settlement import Cause, Ending, Settlement, cancel_call, carry_out_async
from streammesh.tasks.task import AttemptOutcome, Failure, Holder

from services.dispatcher.key_guard import KeyGuard
from services.dispatcher.reconciler import Janitor
from services.dispatcher.settings import DispatcherSettings
from tests.harness.moves import BILL, SERVICE, Moved, Moves

AT_ONCE = DispatcherSettings(_env_file=None).model_copy(update={"janitor_after": timedelta(seconds=-1)})
NO_LUCK = Failure("no luck", "RuntimeError")
STATES = ["queued", "started", "cancel wished", "retrying", "held"]


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    return moves


@pytest.fixture
def janitor(mesh_redis, mesh_keys, mesh_settings):
    def encode(delivery, raw, priority):
        head = b'{"headers":{"id":"%b"}}' % delivery.task_id.encode()
        return Encoded(delivery, mesh_keys.queue(SERVICE), (head,), b"[[%b],{},{}]" % raw)

    return Janitor(mesh_redis, mesh_keys, mesh_settings, AT_ONCE, encode, SystemClock())


async def bring_to(moves, state):
    """One task in this state."""
    paused = frozenset([BILL.task] if state == "held" else [])
    moved = await moves.hand_over("e1", paused=paused)
    if state in ("queued", "held"):
        return moved
    await moves.deliver()
    await moves.claim(moved)
    if state == "cancel wished":
        call = cancel_call(moves.keys, moves.settings, await moves.row(moved))
        assert (await lua.run(moves.redis, call)).answer == "asked"
    if state == "retrying":
        call = moves.ledger.retry_later(moved.ref, moved.place, 1, timedelta(0), NO_LUCK)
        assert await lua.run(moves.redis, call) == "done"
    return moved


async def lose_what_stands_for_it(moves, how):
    keys = moves.keys
    lost = (keys.queue(SERVICE), keys.due(), keys.due_entries(), keys.held(BILL.task))
    if how == "garbage":
        await moves.redis.mset(dict.fromkeys(lost, "garbage"))
    else:
        await moves.redis.delete(*lost)


async def work_off(moves, moved, janitor):
    """What the dispatcher and a worker do from here on."""
    due = DueSet(moves.redis, moves.keys)
    held = HeldTasks(moves.redis, moves.keys, moves.settings)
    for _ in range(3):
        await janitor.look()
        await KeyGuard(moves.redis, moves.keys).run_once()
        with suppress(ResponseError):  # there is a group, as usual
            await moves.redis.xgroup_create(moves.keys.queue(SERVICE), WORKERS, "0", mkstream=True)
        await due.promote(await due.now_ms() + 1)
        for name in await held.waiting():
            await held.release(name)
        for entry in await moves.deliver():
            again = Moved(moved.ref, moved.place._replace(entry=entry))
            claim = await moves.claim(again)
            if claim.verdict == "run":
                await moves.succeed(again, claim.attempt)
            elif claim.verdict == "cancelled":
                await moves.end(again, Holder.ANYBODY, Ending.cancelled())


def ends(told):
    return [kind for kind in told if kind.removeprefix("task.") in ENDED]


@pytest.mark.parametrize("event", ["kept", "trimmed"])
@pytest.mark.parametrize("how", ["deleted", "garbage"])
@pytest.mark.parametrize("state", STATES)
async def test_a_task_of_which_nothing_lies_anywhere_ends_once(moves, janitor, state, how, event):
    moved = await bring_to(moves, state)
    await lose_what_stands_for_it(moves, how)
    if event == "trimmed":
        await moves.redis.delete(moves.keys.events("order"))

    with structlog.testing.capture_logs() as said:
        await work_off(moves, moved, janitor)

    end = "cancelled" if state == "cancel wished" else "succeeded" if event == "kept" else "failed"
    row = await moves.row(moved)
    assert row.state == end
    assert ends(await moves.told()) == [f"task.{end}"]
    assert (await moves.told())[-1] == "event.completed"
    failed = [one for one in said if one["event"] == "task.failed"]
    assert len(failed) == (end == "failed")
    assert await moves.redis.hlen(moves.keys.dead(SERVICE)) == (end == "failed")
    assert await moves.redis.zcard(moves.keys.open_tasks(SERVICE)) == 0


@pytest.mark.parametrize("state", STATES)
async def test_a_task_whose_record_is_lost_is_found_again_where_it_lies(moves, janitor, state):
    moved = await bring_to(moves, state)
    await moves.redis.delete(moves.keys.task(moved.ref.task_id))
    due, held = DueSet(moves.redis, moves.keys), HeldTasks(moves.redis, moves.keys, moves.settings)

    await janitor.look()
    await due.promote(await due.now_ms() + 1)
    await held.release(BILL.task)

    [(entry, _)] = await moves.redis.xrange(moves.keys.queue(SERVICE))
    place = moved.place._replace(entry=entry.decode())
    assert (await moves.claim(Moved(moved.ref, place))).verdict == "gone"  # its worker parks it
    assert await moves.redis.zcard(moves.keys.open_tasks(SERVICE)) == 0


@pytest.mark.parametrize("spoilt", ["dead", "dead_index", "dead_entries", "event", "queue", "due", "held"])
@pytest.mark.parametrize("state", STATES)
async def test_an_end_comes_through_whatever_lies_where_it_writes(moves, state, spoilt):
    moved = await bring_to(moves, state)
    name = {"event": moved.ref.event.id, "held": BILL.task}.get(spoilt, SERVICE)
    make = getattr(moves.keys, spoilt)
    key = make() if spoilt == "due" else make(name)
    await moves.redis.delete(key)
    await moves.redis.set(key, "garbage")

    ending = Ending.failed(NO_LUCK, Cause.REMOVED)
    steps = moves.settlement.settle(moved.ref, moved.place, Holder.ANYBODY, ending, said={})
    outcome = await carry_out_async(steps, lambda call: lua.run(moves.redis, call))

    assert outcome is (AttemptOutcome.CANCELLED if state == "cancel wished" else AttemptOutcome.FAILED)
    assert ends(await moves.told()) == [f"task.{outcome}"]


async def test_a_task_that_lies_somewhere_again_is_not_ended_as_lost(moves):
    moved = await bring_to(moves, "queued")
    ending = Ending.failed(NO_LUCK, Cause.VANISHED)

    assert await moves.end(moved, Holder.NOBODY, ending) == "lost"
    assert (await moves.row(moved)).state == "queued"


async def test_what_was_refused_is_not_logged_as_failed(moves):
    moved = await bring_to(moves, "started")
    assert await moves.succeed(moved, 1) == "done"
    ending = Ending.failed(NO_LUCK, Cause.HARD_LIMIT)
    steps = Settlement(moves.keys, moves.settings).settle(moved.ref, moved.place, 1, ending, said={})

    with structlog.testing.capture_logs() as said:
        outcome = await carry_out_async(steps, lambda call: lua.run(moves.redis, call))

    assert outcome is AttemptOutcome.SKIPPED  # the task had ended
    assert [(one["event"], one["state"]) for one in said] == [("task.lease_lost", "succeeded")]


@pytest.mark.parametrize("state", STATES)
async def test_what_stood_for_a_task_goes_with_its_end_and_a_dead_letter_keeps_it(moves, state):
    moved = await bring_to(moves, state)
    keys = moves.keys

    assert await moves.end(moved, Holder.ANYBODY, Ending.failed(NO_LUCK, Cause.REMOVED)) == "done"

    assert await moves.redis.xlen(keys.queue(SERVICE)) == 0
    assert await moves.redis.exists(keys.due(), keys.due_entries()) == 0
    assert await moves.redis.xlen(keys.held(BILL.task)) == 0
    kept = await moves.redis.hget(keys.dead_entries(SERVICE), f"h:{moved.ref.task_id}")
    assert kept == (None if state == "cancel wished" else b'{"headers":{}}')
