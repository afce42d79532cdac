"""Batches, script by script: what a run took along follows it wherever it goes, and stands in line again without it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streammesh import lua
from streammesh.batches.calls import BatchCalls, BatchMember, Return
from streammesh.clock import SystemClock
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.handoff import Encoded
from streammesh.tasks.settlement import Ending, Terms, cancel_call
from streammesh.tasks.task import Failure, LedgerAnswer
from streammesh.tasks.verdict import RetryPolicy

from services.dispatcher.reconciler import Janitor
from services.dispatcher.settings import DispatcherSettings
from tests.harness.flow_moves import places, retry, run, states, tend
from tests.harness.moves import SERVICE

FULL = {"key": "data.tenant", "batch": 3, "linger": 10.0}
NOT_YET = Failure("not yet", "RuntimeError")


def calls_of(moves, first, attempt=1):
    terms = Terms(RetryPolicy(), moves.ledger, moves.settlement, None, True, lambda: 0.0, lambda _: False)
    return BatchCalls(terms, first.ref, first.place, attempt)


async def begun(moves, count=3):
    """A batch that a worker runs: its tasks, and the calls of the attempt."""
    tasks = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(count)]
    await run(moves, tasks[0])
    return tasks, calls_of(moves, tasks[0])


async def taken(moves, calls):
    found = await lua.run(moves.redis, calls.read())
    return None if found is None else [one.id for one in found]


async def end(moves, calls, *endings):
    return await lua.run(moves.redis, calls.end(endings))


async def test_a_batch_has_one_place_and_one_queue_entry_and_ends_in_one_step(flowing):
    moves = await flowing(**FULL, concurrency=1)
    (first, second, third), calls = await begun(moves)
    more = [await moves.hand_over(f"f{n}", {"tenant": "a"}) for n in range(3)]
    assert await states(moves, first, second, third, *more) == ["started", *["queued"] * 2, *["pending"] * 3]
    assert await places(moves) == [first.ref.task_id]
    assert await moves.redis.xlen(moves.keys.queue(SERVICE)) == 1
    assert await taken(moves, calls) == [second.ref.task_id, third.ref.task_id]

    folded = Ending.folded(first.ref.task_id)
    endings = [
        (BatchMember(second.ref, 1), folded),
        (BatchMember(third.ref, 1), folded),
        (BatchMember(first.ref, 1), Ending.success(1, ())),
    ]
    for _ in range(2):  # the reply of the first was lost
        *_, last = await end(moves, calls, *endings)
        assert last.answer is LedgerAnswer.DONE
    assert await states(moves, first, second, third, *more) == [
        "succeeded",
        "folded",
        "folded",
        *["queued"] * 3,
    ]
    assert (await moves.told()).count("event.completed") == 3
    row = await moves.redis.hgetall(moves.keys.task(second.ref.task_id))
    assert not {b"h", b"b", b"to", b"run"} & set(row) and row[b"attempt"] == b"1"
    await run(moves, more[0])
    await moves.succeed(
        more[0], 1
    )  # by a worker that knows nothing of batches: the others stand in line again
    assert await states(moves, *more) == ["succeeded", "pending", "pending"]


async def test_an_attempt_that_is_not_the_current_one_ends_nobody(flowing):
    moves = await flowing(**FULL)
    (first, second, third), late = await begun(moves)
    await moves.claim(first)  # the lease was over: another attempt
    assert await taken(moves, late) is None
    back = Return(BatchMember(second.ref, 1), NOT_YET, timedelta(0))
    assert await lua.run(moves.redis, late.give_back([back])) is LedgerAnswer.LOST
    [answer] = await end(moves, late, (BatchMember(third.ref, 1), Ending.folded(first.ref.task_id)))
    assert answer.answer is LedgerAnswer.LOST
    assert len(await taken(moves, calls_of(moves, first, 2))) == 2


async def test_nobody_is_folded_into_one_that_was_cancelled_meanwhile(flowing):
    """The run's own task failed, so the second is what succeeded; it has ended, and its worker names the third then."""
    moves = await flowing(**{**FULL, "batch": 4})
    (_, *others), calls = await begun(moves, 4)
    cancelled, third, fourth = (BatchMember(one.ref, 1) for one in others)
    call = cancel_call(moves.keys, moves.settings, await moves.row(others[0]))
    assert (await lua.run(moves.redis, call)).answer is LedgerAnswer.DONE

    success, folded = Ending.success(None, ()), Ending.folded(others[0].ref.task_id)
    answers = await end(moves, calls, (cancelled, success), (third, folded), (fourth, folded))
    assert [one.answer for one in answers] == [LedgerAnswer.ENDED, LedgerAnswer.LOST, LedgerAnswer.LOST]

    named = [(third, success), (fourth, Ending.folded(others[1].ref.task_id))]
    for expected in LedgerAnswer.DONE, LedgerAnswer.ENDED:  # the reply of the first was lost
        answers = await end(moves, calls, *named)
        assert [one.answer for one in answers] == [expected] * 2
    assert await states(moves, *others) == ["cancelled", "succeeded", "folded"]


async def test_what_is_given_back_stands_in_line_again_when_it_is_due(flowing):
    moves = await flowing(**FULL)
    (first, second, third), calls = await begun(moves)
    back = [Return(BatchMember(second.ref, 1), NOT_YET, timedelta(0))]
    for _ in range(2):  # the reply of the first was lost
        assert await lua.run(moves.redis, calls.give_back(back)) is LedgerAnswer.DONE
    assert await taken(moves, calls) == [third.ref.task_id]
    whole = Return(BatchMember(first.ref, 1), NOT_YET, timedelta(0), is_alone=True)
    assert await lua.run(moves.redis, calls.give_back([whole])) is LedgerAnswer.DONE
    assert await states(moves, first, second, third) == ["retrying", "retrying", "pending"], (
        "one was never named"
    )
    due = DueSet(moves.redis, moves.keys)
    await due.promote(await due.now_ms() + 1)
    assert await states(moves, first) == ["queued"], "by itself"
    assert (await moves.row(second)).attempt == 1
    assert not await moves.redis.hexists(moves.keys.task(first.ref.task_id), "batch")


@pytest.mark.parametrize("which", [0, 1])
async def test_one_of_a_batch_is_cancelled_before_it_begins(flowing, which):
    moves = await flowing(**FULL)
    tasks = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]
    call = cancel_call(moves.keys, moves.settings, await moves.row(tasks[which]))
    assert (await lua.run(moves.redis, call)).answer is LedgerAnswer.DONE
    if which == 0:
        assert await states(moves, *tasks) == ["cancelled", "pending", "pending"]
    else:
        await run(moves, tasks[0])
        assert await taken(moves, calls_of(moves, tasks[0])) == [tasks[2].ref.task_id]


async def test_an_attempt_that_broke_off_has_each_run_by_itself(flowing):
    """A process that dies says not whose fault it was: `retry_later.lua` ends the attempt of the first alone."""
    moves = await flowing(**FULL)
    tasks, _ = await begun(moves)
    await retry(moves, tasks[0])
    due = DueSet(moves.redis, moves.keys)
    await due.promote(await due.now_ms() + 1)
    await tend(moves)
    assert await states(moves, *tasks) == ["queued"] * 3
    assert len(await places(moves)) == 3


async def test_a_batch_that_was_set_aside_is_whole_when_it_is_released(flowing):
    moves = await flowing(**FULL)
    tasks = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]
    await moves.redis.hset(moves.keys.paused(), moves.wants.task, "{}")
    await run(moves, tasks[0])
    assert await states(moves, *tasks) == ["held", "queued", "queued"]
    assert await janitor(moves).look() == 0


async def test_what_a_run_took_that_is_gone_is_put_in_line_by_the_janitor(flowing):
    moves = await flowing(**FULL)
    tasks = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]
    assert await janitor(moves).look() == 0
    await moves.redis.hdel(moves.keys.task(tasks[0].ref.task_id), "batch")  # somebody's hand
    assert await janitor(moves).look() == 2
    assert await states(moves, *tasks) == ["queued", "pending", "pending"]
    await moves.redis.xtrim(moves.keys.queue(SERVICE), maxlen=0)
    assert await janitor(moves).look() == 1
    assert await states(moves, *tasks) == ["queued", "pending", "pending"]


async def test_many_batches_that_are_full_at_once_all_start(flowing):
    moves = await flowing(batch=2, linger=10.0)
    given = await moves.given(*((f"e{n}", {"n": n}) for n in range(24)))
    await moves.hand(*given)
    due = DueSet(moves.redis, moves.keys)
    while await due.promote(await due.now_ms()):
        pass
    tasks = [await moves.moved(one) for one in given]
    assert set(await states(moves, *tasks)) == {"queued"}
    assert len(await places(moves)) == 12


async def test_a_batch_has_no_more_than_so_many_bytes(flowing):
    moves = await flowing(batch=24, linger=10.0)
    given = await moves.given(*((f"e{n}", {"text": "x" * 200_000}) for n in range(24)))
    await moves.hand(*given)
    found = await states(moves, *[await moves.moved(one) for one in given])
    assert (found.count("queued"), found.count("pending")) == (20, 4)


def janitor(moves):
    def encode(delivery, raw, priority):
        return Encoded(delivery, moves.keys.queue(SERVICE), (b"{}",), b"[[%b],{},{}]" % raw)

    own = DispatcherSettings(_env_file=None).model_copy(update={"janitor_after": timedelta(seconds=-1)})
    return Janitor(moves.redis, moves.keys, moves.settings, own, encode, SystemClock())
