"""What a client makes of an API that is away, slow, silent, refuses, or is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from streammesh.client import (
    ApiError,
    InvalidAddress,
    MeshClient,
    NotEnded,
    Outcome,
    Reconnect,
    State,
    UnexpectedAnswer,
)
from streammesh.client.retry import Backoff, retry_after
from streammesh.errors import MeshError, MeshUnavailable

from tests.unit.test_mesh_client import told

SENT = {"id": "e/1", "source": "shop", "type": "order.placed", "duplicate": False}
Handler = Callable[[web.Request], Any]


class Script:
    """Answers one request after the other as it is told; the last answer for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, tuple):
            status, headers = answer
            return web.json_response({"detail": "no"}, status=status, headers=headers)
        if isinstance(answer, str):
            return web.Response(text=answer, content_type="text/event-stream")
        if isinstance(answer, dict):
            return web.json_response(answer)
        return answer(request) if not asyncio.iscoroutinefunction(answer) else await answer(request)


@asynccontextmanager
async def serving(handler: Script, **options: Any) -> AsyncIterator[MeshClient]:
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", handler.answer)
    async with (
        TestServer(app) as server,
        MeshClient(str(server.make_url("/")), api_key="k", **options) as client,
    ):
        yield client


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again_with_the_same_id(status):
    script = Script((status, {}), (status, {"Retry-After": "0"}), SENT)
    async with serving(script) as mesh:
        assert (await mesh.publish("order.placed", {})).id == "e/1"
    assert len({orjson.loads(body)["id"] for body in script.bodies}) == 1
    assert len(script.bodies) == 3


async def test_a_get_is_tried_again_too():
    script = Script((503, {}), {"id": "x"})
    async with serving(script) as mesh:
        assert await mesh.get("/v1/key") == {"id": "x"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
async def test_a_refusal_is_final(status):
    script = Script((status, {}))
    async with serving(script) as mesh:
        with pytest.raises(ApiError, match=f"{status}: no"):
            await mesh.publish("order.placed", {})
    assert len(script.requests) == 1


async def test_it_gives_up_when_its_time_is_over_and_says_why():
    script = Script((503, {}))
    async with serving(script, retry_for=0.2) as mesh:
        with pytest.raises(MeshUnavailable, match="no"):
            await mesh.publish("order.placed", {})
    assert len(script.requests) > 2


@pytest.mark.parametrize(("status", "kind"), [(429, ApiError), (503, MeshUnavailable)])
async def test_an_api_that_wants_a_longer_wait_than_there_is_time_is_not_asked_again(status, kind):
    script = Script((status, {"Retry-After": "3600"}))
    async with serving(script, retry_for=1) as mesh:
        with pytest.raises(kind) as refused:
            await mesh.publish("order.placed", {})
    assert len(script.requests) == 1
    if kind is ApiError:
        assert refused.value.retry_after == 3600


def test_retry_after_is_read_in_both_its_forms():
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    asked = format_datetime(now + timedelta(seconds=90), usegmt=True)
    assert retry_after({"Retry-After": "7"}) == 7
    assert retry_after({"Retry-After": asked}, now) == 90
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 12:01:30 -0000"}, now) == 90
    assert retry_after({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, now) == 0
    for garbage in ("", "-1", "soon", "1.5.2", "Thu, 99 Foo 2026 99:99:99 GMT", "\u0661", "9" * 400):
        assert retry_after({"Retry-After": garbage}) in (None, 999_999_999)


def test_what_the_api_asks_for_is_waited_at_least_and_waits_grow_to_a_bound():
    assert 3 <= (Backoff(None).wait(3.0) or 0) <= 4
    backoff = Backoff(None)
    waits = [backoff.wait() or 0 for _ in range(40)]
    assert max(waits) <= 5 and waits[0] <= 0.05 and waits[-1] >= 2.5
    assert Backoff(0).wait() is None


async def test_a_refused_connection_is_tried_again_until_somebody_listens(unused_tcp_port):
    async def late() -> TestServer:
        await asyncio.sleep(0.2)
        app = web.Application()
        app.router.add_post("/v1/events", Script(SENT).answer)
        server = TestServer(app, port=unused_tcp_port)
        await server.start_server()
        return server

    starting = asyncio.create_task(late())
    async with MeshClient(f"http://127.0.0.1:{unused_tcp_port}", api_key="k") as mesh:
        assert (await mesh.publish("order.placed", {})).id == "e/1"
    await (await starting).close()


async def test_nobody_there_is_the_clients_own_error(unused_tcp_port):
    async with MeshClient(f"http://127.0.0.1:{unused_tcp_port}", api_key="k", retry_for=0) as mesh:
        for call in (mesh.publish("a.b", {}), mesh.task("x"), mesh.ping()):
            with pytest.raises(MeshUnavailable, match="cannot be reached"):
                await call


async def hang(_: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def test_an_answer_that_does_not_come_is_unavailable_not_for_ever():
    async with serving(Script(hang), timeout=0.1, retry_for=0) as mesh:
        with pytest.raises(MeshUnavailable, match="no answer in time"):
            await mesh.publish("order.placed", {})


PAGES: dict[str, Handler] = {
    "a page": lambda _: web.Response(text="<html>", content_type="text/html"),
    "a list": lambda _: web.json_response([1]),
    "a redirect": lambda _: web.Response(status=302, headers={"Location": "https://else.example"}),
    "other JSON": lambda _: web.json_response({"hello": "world"}),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
async def test_what_is_no_mesh_is_the_clients_own_error(page):
    async with serving(Script(page), retry_for=0) as mesh:
        with pytest.raises(UnexpectedAnswer, match="is not a mesh's API"):
            await mesh.publish("order.placed", {})
        with pytest.raises(MeshError):
            async for _ in mesh.notifications():
                pass


async def test_a_server_that_speaks_no_http_is_the_clients_own_error():
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR wrong number of arguments\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with MeshClient(f"http://127.0.0.1:{port}", api_key="k", retry_for=0) as mesh:
        with pytest.raises(MeshError):
            await mesh.publish("order.placed", {})
    server.close()


@pytest.mark.parametrize(
    "url", ["", "mesh.example", "ftp://x", "http://", "http://u:pw@x", "http://x?y=1", 7]
)
def test_an_address_that_cannot_be_is_refused_when_it_is_given(url):
    with pytest.raises(InvalidAddress) as refused:
        MeshClient(url, api_key="k")
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("key", ["", "two words", "ключ", "a\nb"])
def test_a_key_that_cannot_be_is_refused_when_it_is_given(key):
    with pytest.raises(InvalidAddress, match="key has characters"):
        MeshClient("http://x", api_key=key)


async def first(mesh: MeshClient, count: int = 1, **asked: Any) -> list[str]:
    found = []
    async with aclosing(mesh.notifications(**asked)) as notes:
        async for note in notes:
            found.append(note.id)
            if len(found) == count:
                break
    return found


async def test_a_silent_connection_is_noticed_and_made_anew():
    async def silent(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(told("1-0").encode())
        await asyncio.sleep(30)
        return stream

    seen: list[Reconnect] = []
    script = Script(silent, told("2-0"))
    async with serving(script, heartbeat_timeout=0.2, on_reconnect=seen.append) as mesh:
        assert await first(mesh, 2) == ["1-0", "2-0"]
    assert script.requests[1].headers["Last-Event-ID"] == "1-0"
    [reconnect] = seen
    assert (reconnect.reason, reconnect.tries, reconnect.after) == ("nothing comes any more", 1, "1-0")


async def test_heartbeats_keep_a_quiet_stream_open():
    async def quiet(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for _ in range(6):
            await stream.write(b": heartbeat\n\n")
            await asyncio.sleep(0.1)
        await stream.write(told("1-0").encode())
        return stream

    script = Script(quiet)
    async with serving(script, heartbeat_timeout=0.3) as mesh:
        assert await first(mesh) == ["1-0"]
    assert len(script.requests) == 1


async def test_reconnects_are_in_the_log_and_told_to_the_hook(caplog):
    caplog.set_level(logging.INFO, "streammesh.client")
    seen: list[Reconnect] = []
    script = Script(told("1-0"), (503, {"Retry-After": "0"}), (500, {}), told("2-0"))
    async with serving(script, on_reconnect=seen.append) as mesh:
        assert await first(mesh, 2) == ["1-0", "2-0"]
    assert [one.tries for one in seen] == [1, 2, 3]
    assert seen[1].reason == "the API answers 503"
    texts = [record.getMessage() for record in caplog.records]
    assert "the API ended the stream" in texts[0] and texts[-1].endswith("comes again, after 1-0")


async def test_the_wait_that_the_api_asks_for_is_kept_by_streams_too():
    seen: list[Reconnect] = []
    script = Script((429, {"Retry-After": "1"}), told("1-0"))
    async with serving(script, on_reconnect=seen.append) as mesh:
        await first(mesh)
    assert 1 <= seen[0].wait <= 1.25


async def test_following_gives_up_after_the_time_that_was_given(unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with MeshClient(url, api_key="k", reconnect_for=0.2) as mesh:
        with pytest.raises(MeshUnavailable, match="cannot be reached"):
            await first(mesh)


async def test_a_notification_that_cannot_be_read_is_left_out(caplog):
    script = Script("id: 1-0\nevent: task.started\ndata: {\n\nid: 2-0\ndata: [1]\n\n" + told("3-0"))
    async with serving(script) as mesh:
        assert await first(mesh) == ["3-0"]
    assert "cannot be read" in caplog.text


async def test_more_streams_than_connections_in_a_pool_leave_room_for_calls():
    async def quiet(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response(SENT)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(told("1-0").encode())
        await asyncio.sleep(30)
        return stream

    async with serving(Script(quiet), retry_for=0) as mesh:
        streams = [mesh.notifications() for _ in range(120)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        assert (await mesh.publish("a.b", {})).id == "e/1"
        for stream in streams:
            await stream.aclose()


def ended(position: str, kind: str, task: str) -> str:
    value = {"id": position, "type": kind, "event": {"id": "e/1"}, "task": {"id": task}, "data": {}}
    return f"event: {kind}\ndata: {orjson.dumps(value).decode()}\nid: {position}\n\n"


def last(position: str, kind: str, data: dict[str, Any]) -> str:
    value = {"id": position, "type": kind, "event": {"id": "e/1"}, "data": data}
    return f"event: {kind}\ndata: {orjson.dumps(value).decode()}\nid: {position}\n\n"


async def outcome_of(*frames: str) -> tuple[Outcome, Script]:
    script = Script(SENT, "".join(frames))
    async with serving(script) as mesh:
        return await mesh.run("order.placed", {}), script


async def test_run_follows_the_event_of_its_own_source():
    _, script = await outcome_of(last("1-0", "event.completed", {"tasks": 0}))
    assert script.requests[1].path_qs == "/v1/events/e%2F1/notifications?source=shop"


async def test_nothing_ran_is_not_success_and_is_told_apart_from_failure():
    nothing, _ = await outcome_of(last("1-0", "event.unrouted", {"reason": "no subscription wants it"}))
    well, _ = await outcome_of(
        ended("1-0", "task.succeeded", "t"), last("2-0", "event.completed", {"tasks": 1})
    )
    badly, _ = await outcome_of(
        ended("1-0", "task.succeeded", "t"),
        ended("2-0", "task.failed", "u"),
        last("3-0", "event.completed", {"tasks": 2, "failed": 1}),
    )
    unknown, _ = await outcome_of(
        ended("1-0", "task.succeeded", "t"), last("2-0", "event.completed", {"tasks": 2, "failed": 1})
    )

    assert (nothing.succeeded, nothing.state, nothing.reason) == (
        False,
        State.NOTHING_RAN,
        "no subscription wants it",
    )
    assert (well.succeeded, well.state) == (True, State.SUCCEEDED)
    assert (badly.succeeded, badly.state) == (False, State.FAILED)
    assert (unknown.succeeded, unknown.state, unknown.missing) == (False, State.FAILED, 1)


async def test_a_run_that_takes_too_long_says_what_it_waits_for():
    async def never(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await asyncio.sleep(30)
        return stream

    task = {"name": "shop_worker.pack", "state": "queued", "ended_at": None}
    event = {"deliveries": [{"task": task}], "detail": "0 of 1 tasks ended."}
    async with serving(Script(SENT, never, event)) as mesh:
        with pytest.raises(NotEnded, match=r"has not ended after 0.3 s: shop_worker.pack is queued") as late:
            await mesh.run("order.placed", {}, timeout=0.3)
    assert isinstance(late.value, TimeoutError) and isinstance(late.value, MeshError)
    assert (late.value.event_id, late.value.source) == ("e/1", "shop")
