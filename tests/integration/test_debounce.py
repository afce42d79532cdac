"""Debounce, script by script: one run for each quiet period of a key, the last event's, and the others end as folded into it."""

from __future__ import annotations

import pytest
from streammesh import lua
from streammesh.clock import SystemClock
from streammesh.flow.limits import Flow
from streammesh.lines.state import keys_call
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.settlement import Ending, cancel_call
from streammesh.tasks.task import Holder

from services.dispatcher.folder import Folder
from tests.harness.flow_moves import leftovers, promote, retry, run, states, tend

QUIET = {"key": "data.tenant", "debounce": 10.0}


@pytest.fixture
def folder(mesh_redis, mesh_keys, mesh_settings):
    return Folder(mesh_redis, mesh_keys, mesh_settings)


async def pass_by(moves, seconds):
    """Have the subscription's times lie so much further back."""
    keys, task = moves.keys, moves.wants.task
    for key in (keys.flow_slow(task), keys.flow_until(task), keys.due()):
        for member in await moves.redis.zrange(key, 0, -1):
            await moves.redis.zincrby(key, -seconds * 1000, member)
    due = DueSet(moves.redis, keys)
    while await due.promote(await due.now_ms()):
        pass


async def result(moves, moved):
    return (await moves.row(moved)).result


async def test_the_last_of_a_quiet_period_runs_and_the_others_name_it(flowing, folder):
    moves = await flowing(**QUIET)
    first, second = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(2)]
    other = await moves.hand_over("b", {"tenant": "b"})
    await pass_by(moves, 6)
    third = await moves.hand_over("e3", {"tenant": "a"})
    await pass_by(moves, 6)
    assert await states(moves, first, second, third, other) == ["pending"] * 3 + ["queued"]
    await pass_by(moves, 5)
    assert await states(moves, first, second, third) == ["pending", "pending", "queued"]

    await folder.run_once()
    assert await states(moves, first, second) == ["folded", "folded"]
    assert await result(moves, first) == await result(moves, second) == {"run": third.ref.task_id}
    told = await moves.told()
    assert told.count("task.folded") == told.count("event.completed") == 2
    event = await moves.rows.event("e0", "tests")
    assert event is not None and event.completed and event.failed == 0
    for one in (third, other):
        await run(moves, one)
        await moves.succeed(one, 1)
    assert await leftovers(moves) == []
    assert not await moves.redis.exists(moves.keys.folding())


async def test_the_first_waits_no_longer_than_max_wait(flowing):
    moves = await flowing(**QUIET, max_wait=15.0)
    first = await moves.hand_over("e0", {"tenant": "a"})
    await pass_by(moves, 8)
    second = await moves.hand_over("e1", {"tenant": "a"})
    await pass_by(moves, 6.5)
    third = await moves.hand_over("e2", {"tenant": "a"})
    assert await states(moves, first, second, third) == ["pending"] * 3
    await pass_by(moves, 1)
    assert await states(moves, first, second, third) == ["pending", "pending", "queued"]


async def test_what_comes_while_a_run_is_under_way_begins_a_period_of_its_own(flowing, folder):
    moves = await flowing(**QUIET)
    first = await moves.hand_over("e0", {"tenant": "a"})
    await pass_by(moves, 11)
    second, third = [await moves.hand_over(f"f{n}", {"tenant": "a"}) for n in range(2)]
    await pass_by(moves, 11)
    assert await states(moves, first, second, third) == ["queued", "pending", "queued"]
    await folder.run_once()
    assert await result(moves, second) == {"run": third.ref.task_id}


async def test_a_run_that_finds_no_place_takes_what_comes_until_there_is_one(flowing, folder):
    moves = await flowing(**QUIET, concurrency=1)
    first = await moves.hand_over("e0", {"tenant": "a"})
    await pass_by(moves, 11)
    second = await moves.hand_over("e1", {"tenant": "a"})
    await pass_by(moves, 11)
    third = await moves.hand_over("e2", {"tenant": "a"})
    assert await states(moves, first, second, third) == ["queued", "pending", "pending"]
    await run(moves, first)
    await moves.succeed(first, 1)
    await folder.run_once()
    assert await states(moves, second, third) == ["folded", "queued"]


async def test_what_is_older_than_a_run_and_comes_late_is_folded_into_it(flowing, folder):
    moves = await flowing(**QUIET)
    late, *rest = await moves.given(*((f"e{n}", {"tenant": "a"}) for n in range(3)))
    await moves.hand(*rest)
    await pass_by(moves, 11)
    await moves.hand(late)
    await folder.run_once()
    tasks = [await moves.moved(one) for one in (late, *rest)]
    assert await states(moves, *tasks) == ["folded", "folded", "queued"]


async def test_the_one_before_runs_where_the_last_was_cancelled(flowing, folder):
    moves = await flowing(**QUIET)
    first, second, third = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(3)]
    assert (
        await lua.run(moves.redis, cancel_call(moves.keys, moves.settings, await moves.row(third)))
    ).answer == "done"
    await pass_by(moves, 11)
    await folder.run_once()
    assert await states(moves, first, second, third) == ["folded", "queued", "cancelled"]


async def test_one_that_was_taken_can_be_cancelled_before_it_is_folded(flowing, folder):
    moves = await flowing(**QUIET)
    first, second = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(2)]
    await pass_by(moves, 11)
    assert await moves.end(first, Holder.ANYBODY, Ending.cancelled()) == "done"
    await folder.run_once()
    assert await states(moves, first, second) == ["cancelled", "queued"]
    assert await moves.end(second, Holder.IN_LINE, Ending.folded("x")) == "lost", "only what waits is folded"


async def test_a_retry_keeps_its_place_and_is_never_folded(flowing, folder):
    moves = await flowing(**QUIET)
    first = await moves.hand_over("e0", {"tenant": "a"})
    await pass_by(moves, 11)
    await run(moves, first)
    await retry(moves, first)
    second = await moves.hand_over("e1", {"tenant": "a"})
    await moves.redis.delete(moves.keys.flow_places(moves.wants.task))  # somebody's hand
    await promote(moves)
    assert await states(moves, first) == ["queued"]
    await pass_by(moves, 11)
    await folder.run_once()
    assert await states(moves, first, second) == ["queued", "queued"]


async def test_while_it_is_paused_a_period_may_end_and_its_run_waits(flowing, folder):
    moves = await flowing(**QUIET)
    first = await moves.hand_over("e0", {"tenant": "a"})
    await moves.redis.hset(moves.keys.paused(), moves.wants.task, "{}")
    await pass_by(moves, 11)
    second = await moves.hand_over("e1", {"tenant": "a"})
    assert await states(moves, first, second) == ["pending", "pending"]
    await moves.redis.hdel(moves.keys.paused(), moves.wants.task)
    await tend(moves)
    await folder.run_once()
    assert await states(moves, first, second) == ["folded", "queued"]


async def test_what_waits_goes_by_the_newest_manifest(flowing, folder):
    moves = await flowing(**QUIET)
    waits = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(2)]
    await tend(moves, Flow(key="data.tenant", debounce=2.0).limits, line_from=b"-")
    await pass_by(moves, 3)
    assert await states(moves, *waits) == ["pending", "queued"]
    await folder.run_once()

    more = [await moves.hand_over(f"f{n}", {"tenant": "a"}) for n in range(2)]
    await tend(moves, b"{}")
    assert await states(moves, *more) == ["queued", "queued"], "without debounce each runs"


async def test_a_long_period_is_folded_in_pages_and_by_whoever_is_there(flowing, folder):
    moves = await flowing(**QUIET)
    given = await moves.given(*((f"e{n}", {"tenant": "a"}) for n in range(250)))
    for first in range(0, 250, 50):
        await moves.hand(*given[first : first + 50])
    await pass_by(moves, 11)
    assert await folder._fold(moves.wants.task) == (True, 100)  # and this dispatcher was killed
    await Folder(moves.redis, moves.keys, moves.settings).run_once()
    *rest, last = [await moves.moved(one) for one in given]
    assert set(await states(moves, *rest)) == {"folded"}
    assert {(await result(moves, one))["run"] for one in rest} == {last.ref.task_id}


async def test_what_somebody_wrote_into_the_keys_is_stepped_over(flowing, folder):
    moves = await flowing(**QUIET)
    keys, task = moves.keys, moves.wants.task
    await moves.redis.zadd(keys.flow_runs(task), {"garbage": 0, "a\0zzz gone": 0})
    await moves.redis.zadd(keys.flow_line(task), {"a\0000 nobody": 0})
    await moves.redis.sadd(keys.folding(), task, "no.body")
    await moves.redis.set(keys.flow_runs("no.body"), "text")
    await folder.run_once()
    assert not await moves.redis.exists(keys.folding())
    first, second = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(2)]
    await pass_by(moves, 11)
    await folder.run_once()
    assert await states(moves, first, second) == ["folded", "queued"]


async def test_its_keys_say_when_the_period_ends(flowing):
    moves = await flowing(**QUIET)
    await moves.hand_over("e0", {"tenant": "a"})
    page = await lua.run(moves.redis, keys_call(moves.keys, moves.wants.task, None, 5))
    [key] = page.keys
    now = SystemClock().now().timestamp() * 1000
    assert key.key == "a" and key.waiting == 1 and 5_000 < key.starts_ms - now < 11_000
