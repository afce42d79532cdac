"""`GET /v1/tasks/{id}/streams/{name}`: chunks as they come, from any offset, by SSE and long poll."""

from __future__ import annotations

import asyncio

import pytest
from streammesh import lua
from streammesh.client import MeshClient, SyncMeshClient
from streammesh.durable.calls import DurableCalls

from services.api.routes.task_streams import ChunkPage
from services.api.tests.expectations import assert_problem
from services.api.tests.sse import Stream

TEXT = {"accept": "text/event-stream"}


class Writer:
    """A task that runs, and what its handler streams."""

    def __init__(self, mesh, task):
        self.mesh, self.task, self._next = mesh, task, 1
        self.path = f"/v1/tasks/{task.ref.task_id}/streams/tokens"
        self.key = mesh.keys.chunks(task.ref.task_id, "tokens")

    async def write(self, *pieces, first=None):
        first, self._next = first or self._next, self._next + len(pieces)
        calls = DurableCalls(self.mesh.keys, self.mesh.settings)
        task = self.task
        return await lua.run(
            self.mesh.redis,
            calls.write_chunks(task.ref, task.place, task.attempt, "tokens", first, pieces),
        )

    async def begin_anew(self):
        """Another attempt, on the same queue entry: as after a kill."""
        await self.mesh.start(self.task)
        self._next = 1


@pytest.fixture
async def writer(api, mesh):
    return await made(api, mesh)


async def made(client, mesh):
    await mesh.subscribe("worker", "order.placed")
    await client.post("/v1/events", json={"type": "order.placed", "id": "e1", "data": {}})
    (task,) = await mesh.dispatch("order", "worker")
    await mesh.start(task)
    return Writer(mesh, task)


def said(page):
    return [(one["offset"], one["kind"], one["data"]) for one in page["chunks"]]


async def test_chunks_of_each_kind_are_read_from_an_offset_on(api, writer):
    await writer.write(b"tOnce upon", b"b\x00\xff", b'j{"n":1}')

    page = (await api.get(writer.path)).json()
    assert said(page) == [("1-1", "text", "Once upon"), ("1-2", "bytes", "AP8="), ("1-3", "json", {"n": 1})]
    assert (page["ended"], page["state"], page["restarted"]) == (False, None, False)
    rest = (await api.get(writer.path, params={"offset": "1-2"})).json()
    assert said(rest) == [("1-3", "json", {"n": 1})]
    assert ChunkPage.model_validate(rest).offset == "1-3"


async def test_a_repeated_batch_is_written_once_and_a_cut_off_attempt_writes_nothing(api, mesh, writer):
    assert [await writer.write(b"ta", b"tb"), await writer.write(b"ta", b"tb", first=1)] == ["done", "done"]
    old = writer.task.attempt
    await writer.begin_anew()
    writer.task.attempt, new = old, writer.task.attempt
    assert await writer.write(b"tlate", first=3) == "lost"

    writer.task.attempt = new
    assert await writer.write(b"tA", first=1) == "done"
    page = (await api.get(writer.path, params={"offset": "1-2"})).json()
    assert (said(page), page["restarted"]) == ([("2-1", "text", "A")], True)


async def test_a_long_poll_is_answered_when_a_chunk_comes_and_when_the_task_ends(api, mesh, writer):
    asked = asyncio.create_task(api.get(writer.path, params={"wait": "20s"}))
    await asyncio.sleep(0.05)
    await writer.write(b"tnow")
    page = (await asyncio.wait_for(asked, 5)).json()
    assert said(page) == [("1-1", "text", "now")]

    asked = asyncio.create_task(api.get(writer.path, params={"wait": "20s", "offset": page["offset"]}))
    await asyncio.sleep(0.05)
    await mesh.succeed(writer.task, {})
    last = (await asyncio.wait_for(asked, 5)).json()
    assert (last["chunks"], last["ended"], last["state"]) == ([], True, "succeeded")


async def test_a_stream_leaves_with_the_record_of_its_task(api, mesh, writer):
    await writer.write(b"tnow")
    await mesh.succeed(writer.task, {})

    left = [await mesh.redis.pttl(key) for key in (writer.key, mesh.keys.task(writer.task.ref.task_id))]
    assert abs(left[0] - left[1]) < 1_000 and left[0] > 0


@pytest.mark.parametrize("offset", ["x", "1-", "-1", "1-1-1", "9" * 30])
async def test_an_offset_that_cannot_be_is_refused(api, writer, offset):
    assert_problem(await api.get(writer.path, params={"offset": offset}), 400, "malformed-request")


async def test_only_who_may_read_the_task_reads_its_streams(api, make_key, writer):
    await writer.write(b"tsecret")
    for options, status in (({"subscribe": ["other.*"]}, 404), ({"subscribe": ["order.*"]}, 200)):
        key = await make_key(f"reader-{status}", **options)
        answer = await api.get(writer.path, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == status
    assert_problem(await api.get("/v1/tasks/nobody/streams/tokens"), 404, "not-found")
    assert_problem(await api.get(f"{writer.path}%0a"), 422, "invalid-request")


async def test_garbage_in_a_stream_is_stepped_over(api, mesh, writer):
    await mesh.redis.xadd(writer.key, {"x": "y"}, id="1-1")
    await mesh.redis.xadd(writer.key, {"k": "t", "d": b"\xff"}, id="1-2")
    await mesh.redis.xadd(writer.key, {"k": "j", "d": b"{"}, id="1-3")
    await mesh.redis.xadd(writer.key, {"k": "t", "d": b"good"}, id="1-4")
    assert said((await api.get(writer.path)).json()) == [("1-4", "text", "good")]

    await mesh.redis.hset(mesh.keys.task(writer.task.ref.task_id), "stream:tokens", "\x00 x")
    await mesh.redis.delete(writer.key)
    await mesh.redis.set(writer.key, "no stream")
    assert (await api.get(writer.path)).json()["chunks"] == []
    assert await writer.write(b"tafter") == "done"
    assert said((await api.get(writer.path)).json()) == [("1-1", "text", "after")]


async def test_a_task_has_so_many_streams_and_no_more(mesh, writer):
    calls, task = DurableCalls(mesh.keys, mesh.settings), writer.task
    answers = [
        await lua.run(mesh.redis, calls.write_chunks(task.ref, task.place, task.attempt, f"s{n}", 1, [b"tx"]))
        for n in range(17)
    ]
    assert answers == ["done"] * 16 + ["full"]


async def test_a_client_hears_chunks_as_they_come_each_new_epoch_and_the_end(live, mesh):
    writer = await made(live, mesh)
    await writer.write(b"ta")
    async with live.stream("GET", writer.path, headers=TEXT) as response:
        assert response.headers["content-type"] == "text/event-stream"
        stream = Stream(response)
        assert [one.type for one in await stream.take(2)] == ["epoch", "chunk"]
        await writer.write(b"tb")
        assert (await stream.next()).data == {"epoch": 1, "offset": "1-2", "kind": "text", "data": "b"}
        await writer.begin_anew()
        await writer.write(b"tA")
        told = await stream.take(2)
        assert [(one.type, one.data["epoch"]) for one in told] == [("epoch", 2), ("chunk", 2)]
        await mesh.succeed(writer.task, {})
        [end] = await stream.rest()
        assert (end.type, end.data) == ("end", {"state": "succeeded", "epoch": 2})

    resumed = await live.get(writer.path, headers={**TEXT, "last-event-id": "2-1"})
    assert resumed.status_code == 204


async def test_the_clients_follow_a_stream_to_its_end_and_resume_it(live, admin, mesh):
    writer = await made(live, mesh)
    await writer.write(b"ta", b"b\xff", b'j{"n":1}')
    url, task_id = str(live.base_url), writer.task.ref.task_id

    async def follow():
        async with MeshClient(url, api_key=admin, retry_for=0) as client:
            return [chunk async for chunk in client.stream(task_id, "tokens")]

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.05)
    await writer.write(b"tb")
    await mesh.succeed(writer.task, {})
    assert [(one.epoch, one.data) for one in await following] == [
        (1, "a"),
        (1, b"\xff"),
        (1, {"n": 1}),
        (1, "b"),
    ]

    def resume():
        with SyncMeshClient(url, api_key=admin, retry_for=0) as client:
            return [chunk.offset for chunk in client.stream(task_id, "tokens", offset="1-3")]

    assert await asyncio.to_thread(resume) == ["1-4"]


async def test_a_stream_ends_when_its_replica_stops_and_its_slot_is_free_when_the_client_goes(
    live, door, mesh
):
    writer = await made(live, mesh)
    hub = door.app.state.wiring.hub
    async with live.stream("GET", writer.path, headers=TEXT) as response:
        stream = Stream(response)
        await stream.until(lambda: stream.retry is not None)
        assert hub.open_streams == 1
        stream.reader.cancel()
    async with asyncio.timeout(5):
        while hub.open_streams:
            await asyncio.sleep(0.01)

    async with live.stream("GET", writer.path, headers=TEXT) as response:
        stream = Stream(response)
        await stream.until(lambda: stream.retry is not None)
        await hub.stop()
        [last] = await stream.rest()
        assert (last.type, last.data["reason"]) == ("closed", "stopping")
