"""A full Redis: nothing new comes in, and what was accepted is worked off."""

from __future__ import annotations

import asyncio

import pytest
from streammesh import lua
from streammesh.errors import MeshFull
from streammesh.events.publisher import Publisher
from streammesh.redisio.heartbeat import life_call

from tests.harness.moves import SERVICE, Moves


@pytest.fixture
async def moves(mesh_redis, mesh_keys, mesh_settings):
    made = Moves(mesh_redis, mesh_keys, mesh_settings)
    await made.join()
    yield made
    await mesh_redis.config_set("maxmemory", "0")


async def use_up(client, percent: int) -> None:
    """Set the limit so that this much of it is used; readings taken before no longer hold."""
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", str(used * 100 // percent))
    await asyncio.sleep(0.06)


@pytest.mark.parametrize("percent", [95, 150])
async def test_a_task_that_was_accepted_ends_however_full_redis_is(moves, mesh_redis, mesh_keys, percent):
    moved = await moves.hand_over("one")
    await moves.deliver()
    await use_up(mesh_redis, percent)

    claimed = await moves.claim(moved)
    await lua.run(mesh_redis, life_call(mesh_keys, SERVICE, "worker@test:1"))
    assert await moves.succeed(moved, claimed.attempt, {"n": 1}) == "done"
    assert (await moves.row(moved)).state == "succeeded"


@pytest.mark.parametrize("percent", [86, 150])
async def test_nothing_is_published_above_the_mark(moves, mesh_redis, mesh_keys, mesh_settings, percent):
    publisher = Publisher(mesh_redis, mesh_keys, mesh_settings, "tests")
    await use_up(mesh_redis, percent)
    with pytest.raises(MeshFull):
        await publisher.publish("order.placed", {})
    assert await mesh_redis.xlen(mesh_keys.events("order")) == 0


async def test_below_the_mark_all_goes_on(moves, mesh_redis):
    await use_up(mesh_redis, 70)
    assert (await moves.row(await moves.hand_over("one"))).state == "queued"


async def test_the_mark_may_be_set(mesh_redis, mesh_keys, mesh_settings):
    await use_up(mesh_redis, 70)
    settings = mesh_settings.model_copy(update={"memory_mark": 60})
    with pytest.raises(MeshFull, match="60 %"):
        await Publisher(mesh_redis, mesh_keys, settings, "tests").publish("order.placed", {})
    await mesh_redis.config_set("maxmemory", "0")


async def test_a_reading_of_another_type_is_written_anew(mesh_redis, mesh_keys, mesh_settings):
    await use_up(mesh_redis, 90)
    await mesh_redis.rpush(mesh_keys.memory(), "garbage")
    with pytest.raises(MeshFull):
        await Publisher(mesh_redis, mesh_keys, mesh_settings, "tests").publish("order.placed", {})
    await mesh_redis.config_set("maxmemory", "0")
