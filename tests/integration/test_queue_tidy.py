"""What the workers of a queue find there that nobody will ever read, and give back."""

from __future__ import annotations

from streammesh import lua
from streammesh.keys import RETURNED, WORKERS
from streammesh.transport.scripts import QueueCalls

HOUR_MS = 3_600_000


async def test_an_entry_that_was_delivered_and_is_in_nobodys_hands_is_given_back(mesh_redis, mesh_keys):
    stream = mesh_keys.queue("shop")
    calls = QueueCalls(mesh_keys, "one", 30_000, 50, HOUR_MS)
    await lua.run(mesh_redis, calls.declare([stream], None, joins=True))
    torn, held, fresh = [await mesh_redis.xadd(stream, {"h": "{}", "b": f"{n}"}) for n in range(3)]
    # As a server is that lost the end of a step: the group is past the entry, and has it in nobody's hands.
    await mesh_redis.xgroup_setid(stream, WORKERS, torn)
    await mesh_redis.xreadgroup(WORKERS, "two", {stream: ">"}, count=1)

    assert await lua.run(mesh_redis, calls.tidy([stream], HOUR_MS)) == 0

    owners = {
        one["message_id"]: one["consumer"].decode()
        for one in await mesh_redis.xpending_range(stream, WORKERS, "-", "+", 10)
    }
    assert owners == {torn: RETURNED, held: "two"}
    taken = await lua.run(mesh_redis, calls.take([stream], 10, stale=False))
    assert [read.entry for read in taken.entries] == [torn.decode()]
    [(_, [(read, _)])] = await mesh_redis.xreadgroup(WORKERS, "two", {stream: ">"})
    assert read == fresh
