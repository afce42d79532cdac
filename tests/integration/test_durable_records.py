"""What stands in Redis of runs and their waits may be garbage: it is stepped over, and who really waits is woken."""

from __future__ import annotations

import pytest
from streammesh import lua
from streammesh.dead_letters import DeadLetters, Replaying
from streammesh.durable.calls import AwaitedEvent, DurableCalls, SignalAnswer, Waiter
from streammesh.durable.records import told_steps
from streammesh.events.publisher import Publisher
from streammesh.subscriptions.manifest import Subscription

from tests.harness.moves import SERVICE, Moves

DIGEST = "0" * 32


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    found = Moves(mesh_redis, mesh_keys, mesh_settings)
    await found.join()
    return found


async def waiting(moves, **row):
    """A task that waits for an event, with these fields in its row before it began to."""
    moved = await moves.hand_over("run")
    await moves.deliver()
    attempt = (await moves.claim(moved)).attempt
    if row:
        await moves.redis.hset(moves.keys.task(moved.ref.task_id), mapping=row)
    calls = DurableCalls(moves.keys, moves.settings)
    about = {"for": "event", "type": "order.placed"}
    call = calls.suspend(moved.ref, moved.place, attempt, 1, "w", 60, about, DIGEST)
    assert await lua.run(moves.redis, call) == "done"
    return moved, calls


async def woken(moves, calls, event_id):
    """Whom an event wakes, as the handler of the wake subscription goes about it."""
    other = await moves.hand_over(event_id)
    event = other.ref.event
    came = AwaitedEvent(SERVICE, DIGEST, b"{}", event.id, event.source)
    score, *members = await lua.run(moves.redis, calls.arrive(came))
    found = [one for one in map(Waiter.parse, members) if one]
    did = [await lua.run(moves.redis, call) for call in calls.wake(came, score, found)]
    return [one.task for one, was in zip(found, did, strict=True) if was]


async def test_numbers_of_a_row_that_are_none_hold_up_no_wait(moves):
    garbage = {
        "steps": "many",
        "step_bytes": "9" * 30,
        "waits": "x",
        f"after:{DIGEST}": "never",
        "wait:w": "9" * 30 + " {}",
    }
    moved, calls = await waiting(moves, **garbage)

    assert await woken(moves, calls, "paid") == [moved.ref.task_id]
    assert (await moves.row(moved)).state == "queued"


async def test_what_stands_among_the_waiters_and_is_none_keeps_nobody_from_being_woken(moves):
    moved, calls = await waiting(moves)
    await moves.redis.zadd(moves.keys.waiters(SERVICE, DIGEST), {f"garbage {n}": 0 for n in range(100)})

    assert await woken(moves, calls, "paid") == []  # the garbage was first, and goes
    assert await woken(moves, calls, "paid-again") == [moved.ref.task_id]


async def test_a_signal_to_a_row_of_garbage_is_answered(moves):
    moved = await moves.hand_over("run")
    await moves.redis.hset(moves.keys.task(moved.ref.task_id), mapping={"steps": "x", "step_bytes": "9" * 18})
    calls = DurableCalls(moves.keys, moves.settings)
    assert await lua.run(moves.redis, calls.signal(await moves.row(moved), "yes", b"1")) is SignalAnswer.FULL
    await moves.redis.hset(moves.keys.task(moved.ref.task_id), "step_bytes", "x")
    assert await lua.run(moves.redis, calls.signal(await moves.row(moved), "yes", b"1")) is SignalAnswer.DONE


async def test_signals_that_nobody_waits_for_leave_a_handler_half_of_its_steps(moves):
    moved = await moves.hand_over("run")
    row, calls = moves.keys.task(moved.ref.task_id), DurableCalls(moves.keys, moves.settings)
    for field, half in (("steps", 500), ("step_bytes", 2_097_152)):
        await moves.redis.hset(row, mapping={"steps": 0, "step_bytes": 0, field: half})
        refused = await lua.run(moves.redis, calls.signal(await moves.row(moved), field, b"1"))
        assert refused is SignalAnswer.FULL
        await moves.redis.hset(row, "waiting", f"signal:{field}")
        assert (
            await lua.run(moves.redis, calls.signal(await moves.row(moved), field, b"1")) is SignalAnswer.DONE
        )


@pytest.mark.parametrize("at", [b"9" * 14, b"9" * 16, b"x"])
def test_a_record_of_any_time_is_told_or_left_out(at):
    row = {b"step:a": at + b" step null", b"waiting": b"w", b"wait:w": at + b' {"for":"time"}'}
    steps, waits_for = told_steps(row)
    assert (len(steps), waits_for is None) == ((1, False) if len(at) == 14 else (0, True))


async def test_a_replayed_run_has_the_retries_of_any_and_no_more(moves, mesh_redis, mesh_keys, mesh_settings):
    moved = await moves.hand_over("run")
    await moves.deliver()
    claim = await moves.claim(moved)
    key = moves.keys.task(moved.ref.task_id)
    await moves.redis.hset(key, mapping={"waits": 5, "durable": 1})
    assert await moves.fail(moved, claim.attempt) == "done"

    letter = await DeadLetters(mesh_redis, mesh_keys).get(moved.ref.task_id)
    await Replaying(mesh_redis, mesh_keys, mesh_settings).replay([letter])

    assert (await moves.redis.hmget(key, "waits", "durable")) == [None, b"1"]


async def test_who_was_cut_off_before_a_replay_records_nothing_though_attempts_are_counted_anew(moves):
    moved = await moves.hand_over("run")
    await moves.deliver()
    attempt = (await moves.claim(moved)).attempt
    calls, entry = DurableCalls(moves.keys, moves.settings), moved.place.entry

    def record(place, value):
        return lua.run(moves.redis, calls.record(moved.ref, place, attempt, "charge", "step", value, 1))

    await moves.redis.hset(
        moves.keys.task(moved.ref.task_id), "entry", "99-0"
    )  # another entry stands for it by now
    assert (await record(moved.place, b"1")).verdict == "lost"
    assert (await record(moved.place._replace(entry="99-0"), b"2")).record.value == b"2"
    assert entry != "99-0"


async def test_a_deadline_is_not_decided_while_an_event_in_time_may_still_be_on_its_way(
    mesh_redis, mesh_keys, mesh_settings
):
    wakes = Subscription(SERVICE, "billing.wake_order_placed_1", "order.placed")
    moves = Moves(mesh_redis, mesh_keys, mesh_settings, wakes)
    await moves.join()
    moved, other = await moves.hand_over("run"), await moves.hand_over("paid")
    await moves.deliver()
    attempt, key = (await moves.claim(moved)).attempt, mesh_keys.task(moved.ref.task_id)
    waking, now = mesh_keys.waking(SERVICE), int((await mesh_redis.time())[0]) * 1000
    assert await mesh_redis.zcard(waking) == 2
    await mesh_redis.zrem(waking, moved.ref.task_id)  # for this test it is the run that waits
    await mesh_redis.hset(key, mapping={"wait:w": "1 {}", "last:w": str((now + 60_000) * 1000)})
    waiter, calls = Waiter(moved.ref.task_id, SERVICE, 5, "w"), DurableCalls(mesh_keys, mesh_settings)

    async def decided():
        call = calls.record(
            moved.ref, moved.place, attempt, "w", "timeout", b"null", 1, waiter, DIGEST, "order"
        )
        return (await lua.run(mesh_redis, call)).verdict

    assert await decided() == "open"  # the worker that was to wake it is gone, say
    await moves.succeed(other, (await moves.claim(other)).attempt)
    assert await mesh_redis.zcard(waking) == 0
    [_] = await moves.given(("third", {}))
    assert await decided() == "open"  # a dispatcher has it in hand
    await mesh_redis.xack(
        mesh_keys.events("order"),
        SERVICE,
        *[e for e, _ in await mesh_redis.xrange(mesh_keys.events("order"))],
    )
    await Publisher(mesh_redis, mesh_keys, mesh_settings, "tests").publish("order.placed", {}, id="fourth")
    assert await decided() == "open"  # nobody has read it
    await moves.given()
    assert await decided() == "open"
    await mesh_redis.hset(key, "last:w", str((now - 3_700_000) * 1000))
    assert await decided() == "done"  # nothing is waited for for ever
