"""What a revoked key had open ends soon, wherever it stands."""

from __future__ import annotations

import asyncio

from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.notification_log import PAGE
from streammesh.notifications import Filter

from services.api.push.follower import REVOKED, Follower
from services.api.revocation_watch import RevocationWatch
from services.api.sse import ABORT, EventStream
from services.api.tests.sse import listening


async def test_a_follower_in_the_midst_of_the_past_ends_when_its_key_is_revoked(
    door, api, mesh, make_key, mesh_redis, mesh_keys
):
    told = await mesh.tell(n=PAGE * 3)
    wiring = door.app.state.wiring
    key = await ApiKeys(mesh_redis, mesh_keys).verify(await make_key("reader", subscribe=["*"]))
    follower = wiring.hub.open(key, Filter())
    pages = wiring.hub.attach(follower, "0-0")
    first = await anext(pages)
    await ApiKeys(mesh_redis, mesh_keys).revoke("reader")
    await RevocationWatch(ApiKeys(mesh_redis, mesh_keys), [wiring.hub], wiring.reading, wiring.api).run_once()

    rest = [page async for page in pages]
    wiring.hub.close(follower)

    assert [one.note.id for one in first] == told[: len(first)] and len(first) < PAGE
    assert (rest, follower.ended) == ([], REVOKED)


async def test_a_client_that_takes_nothing_is_dropped_when_its_key_is_revoked(door, api, monkeypatch):
    monkeypatch.setattr("services.api.sse.HURRY_SECONDS", 0.05)
    hub = door.app.state.wiring.hub
    follower: Follower = hub.open(ApiKey("reader"), Filter())
    dropped = asyncio.Event()

    async def send(message):
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    stream = EventStream(hub, follower, [b"a block"], 30)
    sending = asyncio.create_task(stream({"extensions": {ABORT: {"call": dropped.set}}}, None, send))
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
