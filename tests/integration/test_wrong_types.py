"""What lies under a key and has another type than it should is set aside by whoever meets it; the work goes on."""

from __future__ import annotations

import asyncio

import pytest
from streammesh import lua
from streammesh.key_types import set_aside, type_of
from streammesh.redisio.heartbeat import life_call
from streammesh.redisio.pipeline import Multiplexed

from tests.harness.moves import BILL, SERVICE, Moves

SHARED = [
    "domains", "due", "due_entries", "counters", "notifications", "tasks_recent", "holding", "failures",
    "paused", "dead_services", "manifests_version",
]  # fmt: skip


def of_everybody(keys, name):
    return getattr(keys, name)()


def of_the_service(keys, name):
    return getattr(keys, name)(SERVICE)


KEYS = [(of_everybody, name) for name in SHARED]
KEYS += [(of_the_service, name) for name in ("open_tasks", "dead", "dead_index", "dead_entries")]
MOMENTS = ["publish", "hand over", "claim", "end"]


async def spoil(redis, key):
    """Put something of another type there; what is there is gone, as after a wrong command by hand."""
    await redis.delete(key)
    await (redis.rpush(key, "garbage") if type_of(key) == "string" else redis.set(key, "garbage"))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(("made", "name"), KEYS, ids=[name for _, name in KEYS])
async def test_a_task_fails_or_succeeds_as_if_nothing_had_been_there(
    made, name, moment, mesh_redis, mesh_keys, mesh_settings
):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    await moves.hand_over("before")
    key = made(mesh_keys, name)
    ends = {}
    for ending in ("succeeded", "failed"):
        if moment == "publish":
            await spoil(mesh_redis, key)
        moved = await moves.hand_over(f"event-{ending}")
        if moment == "hand over":  # hand_over publishes too; the next one meets it at the hand-off as well
            await spoil(mesh_redis, key)
            moved = await moves.hand_over(f"another-{ending}")
        await moves.deliver()
        if moment == "claim":
            await spoil(mesh_redis, key)
        claim = await moves.claim(moved)
        assert claim.verdict == "run"
        if moment == "end":
            await spoil(mesh_redis, key)
        end = moves.succeed if ending == "succeeded" else moves.fail
        assert await end(moved, claim.attempt) == "done"
        ends[ending] = (await moves.row(moved)).state
        [event] = await moves.rows.events(moved.ref.event.id)
        assert event.completed
        assert await mesh_redis.xlen(mesh_keys.notifications()) or name == "notifications"

    assert ends == {"succeeded": "succeeded", "failed": "failed"}
    assert await mesh_redis.zscore(mesh_keys.open_tasks(SERVICE), moved.ref.task_id) is None
    assert await mesh_redis.hlen(mesh_keys.dead(SERVICE)) == 1


@pytest.mark.parametrize("what", ["event", "task"])
async def test_a_row_of_the_wrong_type_concerns_its_own_task_only(what, mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    one, other = [await moves.hand_over(f"e{n}") for n in (1, 2)]
    await moves.deliver()
    key = mesh_keys.task(one.ref.task_id) if what == "task" else mesh_keys.event(one.ref.event.id)
    await spoil(mesh_redis, key)

    assert (await moves.claim(one)).verdict == ("gone" if what == "task" else "run")
    assert (await moves.claim(other)).verdict == "run"
    assert await mesh_redis.get(set_aside(key)) == b"garbage"
    assert 0 < await mesh_redis.pttl(set_aside(key)) <= 7 * 86_400_000


async def test_the_queue_of_the_wrong_type_is_made_anew_by_the_hand_off(mesh_redis, mesh_keys, mesh_settings):
    moves = Moves(mesh_redis, mesh_keys, mesh_settings)
    await moves.join()
    await spoil(mesh_redis, mesh_keys.queue(SERVICE))

    moved = await moves.hand_over("e")

    assert moved.place.entry
    assert BILL.task == moved.ref.name


async def test_a_call_bears_that_something_is_put_there_again_while_it_is_set_aside(
    mesh_redis, mesh_keys, monkeypatch
):
    key = mesh_keys.alive("dispatcher")
    spoilt: list[None] = []
    call = life_call(mesh_keys, "dispatcher", "one")
    whole = lua._run

    async def meddled(client, made):
        if made.script.name == "show_life" and len(spoilt) < 2:
            spoilt.append(await spoil(mesh_redis, key))
        return await whole(client, made)

    monkeypatch.setattr(lua, "_run", meddled)
    await lua.run(mesh_redis, call)

    assert await mesh_redis.type(key) == b"zset"


async def test_calls_beside_each_other_bear_that_the_first_of_them_sets_aside_what_all_have_met(
    mesh_redis, mesh_keys
):
    key = mesh_keys.alive("dispatcher")
    await spoil(mesh_redis, key)
    multiplexed = Multiplexed(mesh_redis, 5.0)
    try:
        calls = [life_call(mesh_keys, "dispatcher", f"process {n}") for n in range(3)]
        await asyncio.gather(*map(multiplexed.run, calls))
    finally:
        await multiplexed.aclose()

    assert await mesh_redis.zcard(key) == 3
