"""What has the wrong type under a key that is only read is set aside."""

from __future__ import annotations

from streammesh.key_types import set_aside, type_of

from services.dispatcher.key_guard import KeyGuard


async def test_every_shared_key_of_the_wrong_type_is_set_aside(mesh_redis, mesh_keys):
    await mesh_redis.hset(mesh_keys.manifests(), "mail", "{}")
    spoilt = [
        key
        for key in (*mesh_keys.of_the_mesh(), *mesh_keys.of_a_service("mail"))
        if key != mesh_keys.manifests()
    ]
    for key in spoilt:
        await (mesh_redis.rpush(key, "x") if type_of(key) == "string" else mesh_redis.set(key, "x"))
    guard = KeyGuard(mesh_redis, mesh_keys)

    assert await guard.run_once() == len(spoilt)
    assert await guard.run_once() == 0
    assert not await mesh_redis.exists(*spoilt)
    assert await mesh_redis.exists(*(set_aside(key) for key in spoilt)) == len(spoilt)
    assert await mesh_redis.hkeys(mesh_keys.manifests()) == [b"mail"]


async def test_the_streams_of_domains_are_looked_at_and_names_that_are_none_are_left_out(
    mesh_redis, mesh_keys
):
    await mesh_redis.sadd(mesh_keys.domains(), "order", b"\xff", "x" * 5_000)
    await mesh_redis.set(mesh_keys.events("order"), "no stream")

    assert await KeyGuard(mesh_redis, mesh_keys).run_once() == 1
