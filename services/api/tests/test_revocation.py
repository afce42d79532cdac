"""What a revoked key had open ends soon, wherever it stands."""

from __future__ import annotations

import asyncio

from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.notification_log import PAGE

from services.api.hub import Follower
from services.api.revocation_watch import RevocationWatch
from services.api.sse import ABORT, EventStream, closed, follow
from services.api.tests.sse import listening


async def test_a_stream_in_the_midst_of_the_past_ends_when_its_key_is_revoked(
    door, api, mesh, make_key, mesh_redis, mesh_keys
):
    await mesh.tell(n=PAGE * 3)
    wiring = door.app.state.wiring
    key = await ApiKeys(mesh_redis, mesh_keys).verify(await make_key("reader", subscribe=["*"]))
    follower = wiring.hub.open(key, lambda _: True)
    blocks = follow(wiring.hub, follower, "0-0", wiring.api)
    await anext(blocks)
    first = await anext(blocks)
    await ApiKeys(mesh_redis, mesh_keys).revoke("reader")
    await RevocationWatch(ApiKeys(mesh_redis, mesh_keys), wiring.hub, wiring.reading, wiring.api).run_once()

    rest = [block async for block in blocks]
    wiring.hub.close(follower)

    assert 0 < first.count(b"data: ") < PAGE
    assert rest == [closed("revoked")]


async def test_a_client_that_takes_nothing_is_dropped_when_its_key_is_revoked(monkeypatch):
    monkeypatch.setattr("services.api.sse.HURRY_SECONDS", 0.05)
    follower = Follower(ApiKey("reader"), lambda _: True)
    dropped = asyncio.Event()

    async def blocks():
        yield b"a block"

    async def send(message):
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive():
        await dropped.wait()
        return {"type": "http.disconnect"}

    stream = EventStream(blocks(), follower, lambda: None, stall=30)
    sending = asyncio.create_task(stream({"extensions": {ABORT: {"call": dropped.set}}}, receive, send))
    await asyncio.sleep(0.01)
    follower.revoke()

    async with asyncio.timeout(2):
        await sending
    assert dropped.is_set()


async def test_a_stream_ends_soon_after_its_key_is_revoked(live, mesh, make_key, mesh_redis, mesh_keys):
    key = await make_key("gone", admin=True)

    async with listening(live, "/v1/notifications", headers={"authorization": f"Bearer {key}"}) as stream:
        await ApiKeys(mesh_redis, mesh_keys).revoke("gone")
        heard = await stream.rest()

    assert [(one.type, one.data["reason"]) for one in heard] == [("closed", "revoked")]
