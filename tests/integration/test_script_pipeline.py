"""Several calls in one round trip keep to themselves."""

from __future__ import annotations

from streammesh import lua
from streammesh.errors import EventConflict
from streammesh.events import envelope
from streammesh.events.encoded import seal
from streammesh.events.publisher import publish_call


async def test_the_refusal_of_one_call_is_not_the_refusal_of_the_others(mesh_redis, mesh_keys, mesh_settings):
    def call(id, n):
        return publish_call(mesh_keys, mesh_settings, [seal(envelope.make("a.b", n, source="tests", id=id))])

    first = await lua.run_many(mesh_redis, [call("one", 1)])
    answers = await lua.run_many(mesh_redis, [call("two", 1), call("one", 2), call("three", 1)])

    assert [len(first), first[0][0].duplicate] == [1, False]
    assert [type(answer) for answer in answers] == [list, EventConflict, list]
    assert await mesh_redis.xlen(mesh_keys.events("a")) == 3
