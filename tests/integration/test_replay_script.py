"""What a replay puts back, move by move, and who may not touch it any more."""

from __future__ import annotations

from itertools import pairwise

import pytest
from streammesh import lua
from streammesh.dead_letters import DeadLetterFilter, DeadLetters, Replaying
from streammesh.tasks.settlement import Settlement

from tests.harness.moves import SERVICE, Moved, Moves


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    return moves


@pytest.fixture
def letters(mesh_redis, mesh_keys):
    return DeadLetters(mesh_redis, mesh_keys)


@pytest.fixture
def replaying(mesh_redis, mesh_keys, mesh_settings):
    return Replaying(mesh_redis, mesh_keys, mesh_settings)


async def failed(moves, event_id="e1", reason="no luck") -> Moved:
    moved = await moves.hand_over(event_id)
    await moves.deliver()
    claim = await moves.claim(moved)
    assert await moves.fail(moved, claim.attempt, reason) == "done"
    return moved


async def test_a_letter_says_why_and_holds_the_whole_event(moves, letters):
    moved = await failed(moves)

    letter = await letters.get(moved.ref.task_id)

    assert (letter.form, letter.service, letter.task, letter.kind) == (
        *("task", SERVICE, "billing.bill", "RuntimeError"),
    )
    assert letter.event == {"id": "e1", "type": "order.placed", "source": "tests", "subject": None}
    assert (await letters.content(letter))["envelope"]["data"] == {"n": 1}
    assert await letters.count() == {SERVICE: 1}


async def test_a_replayed_task_begins_anew_and_its_event_is_not_complete(moves, letters, replaying):
    moved = await failed(moves)
    [before] = await moves.rows.events("e1")
    done = await replaying.replay([await letters.get(moved.ref.task_id)])
    [row] = await moves.rows.events("e1")
    task = await moves.row(moved)

    assert done.replayed == 1
    assert (before.done, before.failed, before.completed) == (1, 1, True)
    assert (row.done, row.failed, row.completed) == (0, 0, False)
    assert (task.state, task.attempt, task.error, task.times.keys()) == ("queued", 0, None, {"queued_at"})
    assert await letters.get(moved.ref.task_id) is None

    again = Moved(moved.ref, await moves.place(moved.ref.task_id))
    assert await moves.deliver() == [again.place.entry]
    assert (await moves.claim(again)).attempt == 1
    assert await moves.succeed(again, 1) == "done"
    assert (await moves.told())[-4:] == [
        *("task.queued", "task.started", "task.succeeded", "event.completed"),
    ]


async def test_a_replay_made_twice_queues_once(moves, letters, replaying, mesh_redis, mesh_keys):
    letter = await letters.get((await failed(moves)).ref.task_id)

    first, second = await lua.run_many(mesh_redis, [replaying.call(letter), replaying.call(letter)])

    assert (first, second) == ("replayed", "it is not there any more")
    assert await mesh_redis.xlen(mesh_keys.queue(SERVICE)) == 1


async def test_who_held_the_task_before_the_replay_cannot_end_it(moves, letters, replaying):
    moved = await moves.hand_over("e1")
    await moves.deliver()
    zombie = await moves.claim(moved)  # attempt 1, whose worker stands still
    later = await moves.claim(moved)  # attempt 2, taken over and given up
    await moves.fail(moved, later.attempt)
    await replaying.replay([await letters.get(moved.ref.task_id)])
    again = Moved(moved.ref, await moves.place(moved.ref.task_id))
    await moves.deliver()
    claim = await moves.claim(again)

    assert claim.attempt == zombie.attempt == 1
    assert await moves.succeed(moved, zombie.attempt, "too late") == "lost"
    assert await moves.succeed(again, claim.attempt, "right") == "done"
    assert (await moves.row(moved)).result == "right"


async def test_a_letter_outlives_its_ledger_row(moves, letters, replaying, mesh_redis, mesh_keys):
    moved = await failed(moves)
    await mesh_redis.delete(mesh_keys.task(moved.ref.task_id))

    done = await replaying.replay([await letters.get(moved.ref.task_id)])

    task = await moves.row(moved)
    assert (done.replayed, task.state, task.event["id"]) == (1, "queued", "e1")


async def test_a_row_lives_as_long_as_its_task_is_open(moves, letters, replaying, mesh_redis, mesh_keys):
    moved = await moves.hand_over("e1")
    key = mesh_keys.task(moved.ref.task_id)
    handed_over = await mesh_redis.pttl(key)
    await moves.deliver()
    await moves.fail(moved, (await moves.claim(moved)).attempt)
    ended = await mesh_redis.pttl(key)
    await replaying.replay([await letters.get(moved.ref.task_id)])

    assert (handed_over, ended > 0, await mesh_redis.pttl(key)) == (-1, True, -1)


async def test_a_rate_spreads_tasks_over_the_due_set(moves, letters, replaying, mesh_redis, mesh_keys):
    for n in range(5):
        await failed(moves, f"e{n}")
    found, more = await letters.matching(DeadLetterFilter(), 10)

    done = await replaying.replay(found, rate=2)

    waits = [score for _, score in await mesh_redis.zrange(mesh_keys.due(), 0, -1, withscores=True)]
    assert (done.replayed, more) == (5, False)
    assert await mesh_redis.xlen(mesh_keys.queue(SERVICE)) == 1  # the first starts at once
    assert [round((b - a) / 500) for a, b in pairwise(waits)] == [1, 1, 1]


async def test_letters_are_found_page_by_page_newest_first(moves, letters, mesh_redis, mesh_keys):
    ids = [(await failed(moves, f"e{n}", reason=f"reason {n % 2}")).ref.task_id for n in range(7)]
    # All of one millisecond, so that the place among equals matters too.
    await mesh_redis.zadd(mesh_keys.dead_index(SERVICE), dict.fromkeys(ids, 1_700_000_000_000))
    wanted, seen, before = DeadLetterFilter(reason="REASON 1"), [], None
    while True:
        page = await letters.page(wanted, limit=2, before=before)
        assert len(page.letters) <= 2
        seen += [letter.id for letter in page.letters]
        before = page.next
        if before is None:
            break

    assert seen == sorted((i for n, i in enumerate(ids) if n % 2), reverse=True)


async def test_a_filter_picks_what_it_names(moves, letters):
    moved = await failed(moves)
    letter = await letters.get(moved.ref.task_id)
    fitting = [
        DeadLetterFilter(service=SERVICE),
        DeadLetterFilter(task="billing.*"),
        DeadLetterFilter(type="order.*"),
        DeadLetterFilter(kind="RuntimeError"),
        DeadLetterFilter(since_ms=letter.at_ms, until_ms=letter.at_ms),
        DeadLetterFilter(ids=frozenset([letter.id])),
    ]
    others = [
        DeadLetterFilter(service="mail"),
        DeadLetterFilter(task="mail.*"),
        DeadLetterFilter(type="user.*"),
        DeadLetterFilter(kind="ValueError"),
        DeadLetterFilter(reason="something else"),
        DeadLetterFilter(since_ms=letter.at_ms + 1),
        DeadLetterFilter(until_ms=letter.at_ms - 1),
        DeadLetterFilter(ids=frozenset(["other"])),
    ]
    assert [len((await letters.page(f)).letters) for f in fitting] == [1] * len(fitting)
    assert [len((await letters.page(f)).letters) for f in others] == [0] * len(others)
    assert [len((await letters.matching(f, 9))[0]) for f in others] == [0] * len(others)


async def test_the_oldest_letters_make_room(moves, letters, mesh_settings, mesh_redis, mesh_keys):
    moves.settlement = Settlement(mesh_keys, mesh_settings.model_copy(update={"dead_letters_kept": 3}))
    ids = [(await failed(moves, f"e{n}")).ref.task_id for n in range(5)]

    page = await letters.page(DeadLetterFilter())

    assert {letter.id for letter in page.letters} == set(ids[2:])
    assert await mesh_redis.hlen(mesh_keys.dead_entries(SERVICE)) == 9  # h, b and m of each


async def test_dropped_letters_leave_nothing_behind(moves, letters, mesh_redis, mesh_keys):
    await failed(moves)
    found, _ = await letters.matching(DeadLetterFilter(), 10)

    assert await letters.drop(found) == 1
    assert await letters.drop(found) == 0
    keys = (mesh_keys.dead, mesh_keys.dead_index, mesh_keys.dead_entries)
    assert await mesh_redis.exists(*(key(SERVICE) for key in keys)) == 0
