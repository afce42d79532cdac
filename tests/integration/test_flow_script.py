"""Flow control, script by script: who has a place, who waits in line, and whose turn is next."""

from __future__ import annotations

from datetime import timedelta

import pytest
from streammesh import lua
from streammesh.clock import SystemClock
from streammesh.flow.limits import Flow
from streammesh.lines.upkeep import BEGIN
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.handoff import Encoded
from streammesh.tasks.settlement import Ending, cancel_call
from streammesh.tasks.task import Holder

from services.dispatcher.line_keeper import LineKeeper
from services.dispatcher.reconciler import Janitor
from services.dispatcher.settings import DispatcherSettings
from tests.harness.flow_moves import leftovers, retry, run, states, tend
from tests.harness.moves import BILL, SERVICE


@pytest.fixture
def janitor(mesh_redis, mesh_keys, mesh_settings):
    def encode(delivery, raw, priority):
        return Encoded(delivery, mesh_keys.queue(SERVICE), (b"{}",), b"[[%b],{},{}]" % raw)

    own = DispatcherSettings(_env_file=None).model_copy(update={"janitor_after": timedelta(seconds=-1)})
    return Janitor(mesh_redis, mesh_keys, mesh_settings, own, encode, SystemClock())


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
    await retry(moves, first)
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
    await retry(moves, first)
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


async def pass_by(moves, ms):
    """Have the subscription's times lie so much further back: what a test says of them holds on a slow machine too."""
    keys = moves.keys
    for key in (keys.flow_slow(BILL.task), keys.flow_rate(BILL.task), keys.due()):
        for member in await moves.redis.zrange(key, 0, -1):
            await moves.redis.zincrby(key, -ms, member)


async def test_what_is_too_fast_waits_and_goes_by_the_due_set(flowing):
    moves = await flowing(key="data.tenant", throttle="120/m")
    given = await moves.given(*((f"e{n}", {"tenant": "a"}) for n in range(8)), ("b", {"tenant": "b"}))
    await moves.hand(*given)
    *moved, other = [await moves.moved(one) for one in given]
    assert await states(moves, *moved) == ["queued"] * 3 + ["pending"] * 5, "half a second each, from one ago"
    assert await states(moves, other) == ["queued"]
    due = DueSet(moves.redis, moves.keys)
    for queued in (6, 8):
        assert await moves.redis.zscore(moves.keys.due(), f"flow:{BILL.task}")
        await pass_by(moves, 60_000)
        await due.promote(await due.now_ms())
        assert (await states(moves, *moved)).count("queued") == queued, "a pause is made up for by a second"
    assert await moves.redis.zscore(moves.keys.due(), f"flow:{BILL.task}") is None


async def test_what_is_beyond_its_rate_ends_as_skipped_and_its_event_is_complete(flowing):
    moves = await flowing(key="data.user", drop="2/h")
    moved = [await moves.hand_over(f"e{n}", {"user": "a"}) for n in range(3)]
    assert await states(moves, *moved) == ["queued", "queued", "skipped"]
    row = await moves.row(moved[-1])
    assert "beyond the rate of its key" in row.error["reason"]
    [event] = await moves.rows.events("e2")
    assert event.completed and event.failed == 0
    assert (await moves.told())[-2:] == ["task.skipped", "event.completed"]
    assert not await moves.redis.zscore(moves.keys.open_tasks(SERVICE), moved[-1].ref.task_id)
    assert await moves.redis.pttl(moves.keys.task(moved[-1].ref.task_id)) > 0


async def test_while_one_of_a_key_is_there_the_next_is_skipped_and_says_for_which(flowing):
    moves = await flowing(key="data.branch", singleton="skip")
    first, second, other = [await moves.hand_over(f"e{n}", {"branch": b}) for n, b in enumerate("aab")]
    assert await states(moves, first, second, other) == ["queued", "skipped", "queued"]
    assert first.ref.task_id in (await moves.row(second)).error["reason"]
    await run(moves, first)
    await moves.succeed(first, 1)
    assert await states(moves, await moves.hand_over("e9", {"branch": "a"})) == ["queued"]


async def test_the_newer_one_has_the_older_of_its_key_cancelled(flowing):
    moves = await flowing(key="data.branch", singleton="cancel_running")
    first = await moves.hand_over("e1", {"branch": "a"})
    await run(moves, first)
    second, third = [await moves.hand_over(f"e{n}", {"branch": "a"}) for n in (2, 3)]
    assert (await moves.row(first)).wanted_cancelled
    await moves.fail(first, 1)
    assert await states(moves, first, second, third) == ["cancelled", "queued", "pending"]
    assert (await run(moves, second)).verdict == "cancelled"
    await moves.end(second, Holder.ANYBODY, Ending.cancelled())
    assert (await run(moves, third)).verdict == "run"


async def test_other_limits_count_for_what_waits(flowing):
    moves = await flowing(key="data.tenant", concurrency=1)
    moved = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(5)]
    await tend(moves, Flow(key="data.tenant", concurrency=3).limits, line_from=BEGIN)
    assert (await states(moves, *moved)).count("queued") == 3
    await tend(moves, b"{}", line_from=BEGIN)
    assert set(await states(moves, *moved)) == {"queued"}
    for one in moved:
        await run(moves, one)
        await moves.succeed(one, 1)
    await tend(moves, b"{}")
    assert await leftovers(moves) == [] and not await moves.redis.exists(
        moves.keys.flow(BILL.task), moves.keys.flows()
    )


@pytest.mark.parametrize("how", ["deleted", "garbage"])
@pytest.mark.parametrize("which", range(6))
async def test_what_somebody_broke_is_mended_and_all_is_done(flowing, which, how, janitor):
    moves = await flowing(key="data.tenant", concurrency=1, total=2)
    moved = [await moves.hand_over(f"{t}{n}", {"tenant": t}) for t in "abc" for n in range(2)]
    key = moves.keys.of_a_flow(BILL.task)[which]
    await moves.redis.delete(key)
    if how == "garbage":
        await moves.redis.set(key, "garbage")
    keeper = LineKeeper(moves.redis, moves.keys)
    for _ in range(8):
        await janitor.look()
        await keeper.look()
        assert await moves.redis.zcard(moves.keys.flow_places(BILL.task)) <= 2
        for one in moved:
            if await states(moves, one) == ["queued"] and (await run(moves, one)).verdict == "run":
                await moves.succeed(one, 1)
    assert set(await states(moves, *moved)) == {"succeeded"}
    await keeper.look()
    assert await leftovers(moves) == []


async def test_a_place_whose_task_is_not_there_any_more_is_freed(flowing):
    moves = await flowing(key="data.tenant", concurrency=1)
    first, second = [await moves.hand_over(f"e{n}", {"tenant": "a"}) for n in range(2)]
    await moves.redis.delete(moves.keys.task(first.ref.task_id))
    await tend(moves, places_from=BEGIN)
    assert await states(moves, second) == ["queued"]
