"""What a forwarder takes in one look: each entry once, whatever the order in which the server names consumers."""

from __future__ import annotations

import pytest
from streammesh import lua
from streammesh.keys import FORWARDED, RETURNED, WORKERS
from streammesh.lua.queues import ForwardTakeScript


@pytest.mark.parametrize("other", ["a forwarder that died", "z forwarder that died", RETURNED, FORWARDED])
async def test_what_another_left_is_taken_once(other, mesh_redis, mesh_keys):
    stream = mesh_keys.queue("mail")
    await mesh_redis.xgroup_create(stream, WORKERS, "0", mkstream=True)
    entries = {await mesh_redis.xadd(stream, {"h": "{}", "b": "[]"}) for _ in range(2)}
    await mesh_redis.xreadgroup(WORKERS, other, {stream: ">"})
    me = "forwarder"
    await mesh_redis.xgroup_createconsumer(stream, WORKERS, me)

    taken, _, _ = await lua.run(
        mesh_redis,
        ForwardTakeScript(
            stream=stream, group=WORKERS, me=me, returned=RETURNED, sent=FORWARDED, left=10, lease=0, patience=0,
            waiting=0,
        ).call(lambda answer: answer),
    )  # fmt: skip

    assert sorted(entry for _, entry, _, _ in taken) == sorted(entries)
