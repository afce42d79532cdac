"""Every way that a task with limits can go: whoever sets it aside, ends it or brings it back, no place is lost or given twice."""

from __future__ import annotations

import pytest
from streammesh import lua
from streammesh.dead_letters import DeadLetters, Replaying
from streammesh.flow.limits import Flow
from streammesh.lines.state import set_call
from streammesh.lua.script import command
from streammesh.retirement import Retirement
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.settlement import Cause, Ending
from streammesh.tasks.task import Holder
from streammesh.worker.postponement import postpone_call

from services.dispatcher.line_keeper import LineKeeper
from tests.harness.flow_moves import NO_LUCK, leftovers, places, promote, retry, run, states, suspend, three
from tests.harness.late_service import Late
from tests.harness.moves import BILL, SERVICE

A = {"tenant": "a"}


async def replay(moves, moved, rate=None):
    letter = await DeadLetters(moves.redis, moves.keys).get(moved.ref.task_id)
    replaying = Replaying(moves.redis, moves.keys, moves.settings)
    return await replaying.replay([letter, letter], rate=rate)


@pytest.mark.parametrize("row_is_there", [True, False])
async def test_a_replayed_letter_stands_in_line_where_its_event_had(flowing, row_is_there):
    moves = await flowing(concurrency=1)
    first, second, third = await three(moves)
    await run(moves, first)
    await moves.fail(first, 1)
    if not row_is_there:
        await moves.redis.delete(moves.keys.task(first.ref.task_id))

    assert (await replay(moves, first)).replayed == 1
    assert await states(moves, first, second, third) == ["pending", "queued", "pending"]
    await run(moves, second)
    await moves.succeed(second, 1)
    assert await states(moves, first, third) == ["queued", "pending"]
    assert await places(moves) == [first.ref.task_id]
    assert (await run(moves, first)).attempt == 1
    await moves.fail(first, 1)
    assert await states(moves, first, third) == ["failed", "queued"]


@pytest.mark.parametrize("limits", [{"concurrency": 1}, {"order": True}, {"singleton": "skip"}])
async def test_a_letter_replayed_by_a_rate_takes_its_turn_when_it_is_due(flowing, limits):
    moves = await flowing(**limits)
    first = await moves.hand_over("e1", A)
    await run(moves, first)
    await moves.fail(first, 1)
    second = await moves.hand_over("e2", A)
    letter = await DeadLetters(moves.redis, moves.keys).get(first.ref.task_id)
    call = Replaying(moves.redis, moves.keys, moves.settings).call(letter, 50_000)
    assert await lua.run(moves.redis, call) == "replayed"
    assert (await states(moves, first), await places(moves)) == (["retrying"], [second.ref.task_id])
    await promote(moves)
    assert (await states(moves, first), await places(moves)) == (["pending"], [second.ref.task_id])
    await run(moves, second)
    await moves.succeed(second, 1)
    assert (await states(moves, first), await places(moves)) == (["queued"], [first.ref.task_id])


@pytest.mark.parametrize("how", ["retry", "replay", "wait"])
async def test_what_comes_back_after_its_limits_were_taken_away_is_queued(flowing, how):
    moves = await flowing(concurrency=1)
    first = await moves.hand_over("e1", A)
    await run(moves, first)
    if how == "retry":
        await retry(moves, first)
    elif how == "replay":
        await moves.fail(first, 1)
    else:
        await suspend(moves, first)
    await lua.run(moves.redis, register_call(moves.keys, Manifest(SERVICE, subscriptions=(BILL,))))
    keeper = LineKeeper(moves.redis, moves.keys)
    await keeper.look()
    assert not await moves.redis.exists(*moves.keys.of_a_flow(BILL.task), moves.keys.flows())

    async with moves.redis.pubsub() as ears:
        await ears.subscribe(moves.keys.manifests_changed())
        await (replay(moves, first) if how == "replay" else promote(moves))
        heard = [await ears.get_message(timeout=1) for _ in range(2)]
    assert heard[-1]["data"] == b"flow"
    await keeper.look()
    assert await states(moves, first) == ["queued"]
    await moves.succeed(first, (await run(moves, first)).attempt)
    await keeper.look()
    assert not await moves.redis.exists(*moves.keys.of_a_flow(BILL.task), moves.keys.flows())


@pytest.mark.parametrize("fate", ["drop", "dead-letter"])
async def test_nothing_of_a_removed_service_s_limits_is_left(flowing, fate):
    moves = await flowing(key="data.tenant", throttle="1/h", total=2)
    for tenant in "aab":
        await moves.hand_over(f"e{tenant}{await moves.redis.dbsize()}", {"tenant": tenant})
    await lua.run(moves.redis, set_call(moves.keys, BILL.task, {"total": 1}))
    member = f"flow:{BILL.task}"
    assert len(await leftovers(moves)) >= 4
    assert await moves.redis.zscore(moves.keys.due(), member)

    done = await Retirement(moves.redis, moves.keys, moves.settings, SERVICE, fate).run(5)
    assert (done.done, done.tasks) == (True, 3)
    assert not await moves.redis.exists(*moves.keys.of_a_flow(BILL.task))
    assert not await moves.redis.sismember(moves.keys.flows(), BILL.task)
    assert await moves.redis.zscore(moves.keys.due(), member) is None
    assert not await moves.redis.hexists(moves.keys.due_entries(), member)


async def test_what_expires_in_line_ends_when_its_turn_comes_and_gives_the_place_on(flowing):
    moves = await flowing(concurrency=1)
    first, second, third = await three(moves)
    await moves.redis.hset(moves.keys.task(second.ref.task_id), "expires", 1)
    await run(moves, first)
    await moves.succeed(first, 1)
    assert (await run(moves, second)).verdict == "expired"
    assert await moves.end(second, Holder.THIS_ENTRY, Ending.expired()) == "done"
    assert await states(moves, second, third) == ["expired", "queued"]


@pytest.mark.parametrize(
    ("token", "cause"), [(Holder.THIS_ENTRY, Cause.POISON), (1, Cause.HARD_LIMIT), (1, Cause.CHILD_DIED)]
)
async def test_whatever_ends_a_run_gives_its_place_on_once_however_often_that_is_said(flowing, token, cause):
    moves = await flowing(concurrency=1)
    first, second, third = await three(moves)
    await run(moves, first)
    for _ in range(2):
        await moves.end(first, token, Ending.failed(NO_LUCK, cause))
    assert await states(moves, first, second, third) == ["failed", "queued", "pending"]
    assert await places(moves) == [second.ref.task_id]


async def test_a_retry_that_is_set_twice_gives_its_place_away_once(flowing):
    moves = await flowing(concurrency=1)
    first, second, third = await three(moves)
    await run(moves, first)
    assert [await retry(moves, first) for _ in range(2)] == [await retry(moves, first)] * 2
    assert await states(moves, first, second, third) == ["retrying", "queued", "pending"]


async def test_tasks_that_are_claimed_and_ended_together_give_on_as_many_places(flowing):
    moves = await flowing(concurrency=3)
    moved = [await moves.hand_over(f"e{n}", A) for n in range(9)]
    begun = moved[:3]
    await moves.deliver()
    claims = [moves.ledger.claim(one.ref, one.place, "worker@test:1") for one in begun]
    answers = await moves.redis.execute_command(*command(claims, text=True))
    assert [answer[:2] for answer in answers] == [[b"run", 1]] * 3
    ends = [moves.settlement.call(one.ref, one.place, 1, Ending.success(1, ())) for one in begun]
    for _ in range(2):
        assert await moves.redis.execute_command(*command(ends, text=True)) == [b"done succeeded"] * 3
        assert await states(moves, *moved) == ["succeeded"] * 3 + ["queued"] * 3 + ["pending"] * 3


async def test_what_no_worker_knows_gives_its_place_away_and_is_given_up_in_the_end(flowing):
    """It stands in line between two tries, and how long it has been tried goes with it."""
    moves = await flowing(concurrency=1)
    first, second, _ = await three(moves)
    await moves.deliver()
    call = postpone_call(
        moves.keys, moves.settings, first.place, first.ref.task_id, BILL.task, await moves.row(first)
    )
    assert (await lua.run(moves.redis, call)).verdict == "done"
    since = await moves.redis.hget(moves.keys.due_entries(), f"u task:{first.ref.task_id}")
    assert await states(moves, first, second) == ["retrying", "queued"]
    await promote(moves)
    assert await states(moves, first) == ["pending"]
    await run(moves, second)
    await moves.succeed(second, 1)
    [(_, entry)] = await moves.redis.xrange(
        moves.keys.queue(SERVICE), (await moves.place(first.ref.task_id)).entry, count=1
    )
    assert entry[b"u"] == since


async def test_a_skipped_task_does_not_complete_an_event_that_a_late_service_has_work_for(flowing):
    moves = await flowing(singleton="skip")
    await moves.hand_over("e1", A)
    [second] = await moves.given(("e2", A))
    await moves.redis.hset(moves.keys.event("e2"), "want:tests", 2)  # by a backfill; its task goes on
    await moves.hand(second)
    assert await states(moves, await moves.moved(second)) == ["skipped"]
    assert "event.completed" not in await moves.told()


async def test_what_is_cancelled_for_a_newer_one_is_queued_where_it_belongs(flowing):
    moves = await flowing(singleton="cancel_running")
    first = await moves.hand_over("e1", A)
    await run(moves, first)
    await retry(moves, first)
    [urgent] = await moves.given(("e2", A))
    [encoded] = urgent.deliveries
    await moves.hand(urgent._replace(deliveries=[encoded._replace(queue=moves.keys.queue(SERVICE, 8))]))
    entry = (await moves.place(first.ref.task_id)).entry
    assert len(await moves.redis.xrange(moves.keys.queue(SERVICE), entry, entry)) == 1
    assert (await run(moves, first)).verdict == "cancelled"


async def test_backfills_and_replays_start_no_more_than_the_limits_allow(
    mesh_redis, mesh_keys, mesh_settings
):
    late = Late(mesh_redis, mesh_keys, mesh_settings)
    await late.register("early")
    await late.publish(*range(7))
    lined = Subscription("late", "late.lined", "order.placed", flow=Flow(concurrency=2))
    await late.register("late", "order.none", lined)

    async def standing():
        places, line = mesh_keys.flow_places(lined.task), mesh_keys.flow_line(lined.task)
        return len(await late.queued("late")), await mesh_redis.zcard(places), await mesh_redis.zcard(line)

    async def work_off(fail=()):
        ran = []
        while queued := await late.ids("late"):
            assert len(queued) <= 2
            ran += queued
            await late.work_off("late", fail)
        return ran

    begun = await late.backfills.begin("late", "order.*", 1, None, None, "tests")
    assert (await late.run(late.backfiller(), begun.id)).tasks == 7
    assert await standing() == (2, 2, 5)
    assert await work_off(fail=("0", "1", "2", "3")) == list("0123456")
    assert await standing() == (0, 0, 0)

    begun = await late.backfills.begin("late", "order.*", 1, None, None, "tests", again=("failed",))
    assert (await late.run(late.backfiller(), begun.id)).tasks == 4
    assert await standing() == (2, 2, 2)
    assert await work_off() == list("0123")
    assert await standing() == (0, 0, 0)
    late.close()
