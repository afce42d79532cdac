"""Following over server-sent events: the client resumes where it was, whatever the stream did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from streammesh.client import ApiError, MeshClient, UnexpectedAnswer
from streammesh.client.sse import SseParser

Answer = str | int
Serve = Callable[..., Awaitable[MeshClient]]


def told(position: str, kind: str = "task.started") -> str:
    data = orjson.dumps({"id": position, "type": kind, "event": {"id": "e"}, "data": {}}).decode()
    return f"id: {position}\nevent: {kind}\ndata: {data}\n\n"


class Api:
    """Answers one request after the other as it is told, and remembers where each wanted to resume."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.resumed: list[str | None] = []
        self.paths: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.resumed.append(request.headers.get("Last-Event-ID"))
        self.paths.append(request.raw_path)
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return web.json_response({"title": "no", "detail": "no"}, status=answer)
        return web.Response(text=answer, content_type="text/event-stream")


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def mesh(api: Api) -> AsyncIterator[MeshClient]:
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", api.answer)
    async with TestServer(app) as server, MeshClient(str(server.make_url("/")), api_key="k") as client:
        yield client


async def follow(mesh: MeshClient, count: int, **asked: Any) -> list[str]:
    positions = []
    async with aclosing(mesh.notifications(**asked)) as notes:
        async for note in notes:
            positions.append(note.id)
            if len(positions) == count:
                break
    return positions


async def test_it_resumes_after_the_last_one_that_it_was_told(api, mesh):
    api.answers = [told("1-0") + told("2-0"), told("3-0")]
    assert await follow(mesh, 3) == ["1-0", "2-0", "3-0"]
    assert api.resumed == [None, "2-0"]


async def test_a_stream_that_broke_before_anything_was_told_is_resumed_from_where_it_began(api, mesh):
    api.answers = [": connected\nretry: 1000\nid: 5-0\n\n", told("6-0")]
    assert await follow(mesh, 1) == ["6-0"]
    assert api.resumed == [None, "5-0"]


async def test_a_heartbeat_moves_the_position_of_one_that_hears_little(api, mesh):
    api.answers = [told("1-0") + ": heartbeat\nid: 9-0\n\n", told("10-0")]
    assert await follow(mesh, 2) == ["1-0", "10-0"]
    assert api.resumed == [None, "9-0"]


async def test_half_of_a_block_was_not_told_and_is_asked_for_again(api, mesh):
    whole = told("2-0")
    api.answers = [told("1-0") + whole[: whole.index("data:")], whole]
    assert await follow(mesh, 2) == ["1-0", "2-0"]
    assert api.resumed == [None, "1-0"]


async def test_a_stream_that_the_server_closes_with_a_reason_is_taken_up_again(api, mesh):
    api.answers = [told("1-0") + 'event: closed\ndata: {"reason":"stopping"}\n\n', 503, told("2-0")]
    assert await follow(mesh, 2) == ["1-0", "2-0"]
    assert api.resumed == [None, "1-0", "1-0"]


async def test_that_history_is_gone_is_told(api, mesh):
    api.answers = ['event: resync\ndata: {"after":"1-0","detail":"gone"}\n\n' + told("7-0")]
    assert await follow(mesh, 2, after="1-0") == ["", "7-0"]


async def test_an_event_of_which_all_was_told_ends_at_once(api, mesh):
    api.answers = [204]
    assert await follow(mesh, 1, event="e", after="4-0") == []


async def test_the_end_of_an_event_ends_the_stream(api, mesh):
    api.answers = [told("1-0"), told("2-0", "event.completed")]
    assert await follow(mesh, 9, event="e") == ["1-0", "2-0"]


async def test_a_refusal_is_raised_and_not_tried_again(api, mesh):
    api.answers = [401]
    with pytest.raises(ApiError, match="401: no"):
        await follow(mesh, 1)


async def test_any_id_is_one_segment_of_the_path(api, mesh):
    api.answers = [200, 200, told("1-0", "event.completed")]
    for asked in (mesh.event("../a/b ?x%", source="s/t"), mesh.task("..")):
        with pytest.raises(UnexpectedAnswer):
            await asked
    await follow(mesh, 1, event="a/b")
    assert [path.partition("/v1")[2] for path in api.paths] == [
        "/events/..%2Fa%2Fb%20%3Fx%25?source=s/t",
        "/tasks/..",
        "/events/a%2Fb/notifications",
    ]


def test_bytes_may_be_cut_anywhere():
    whole = ("id: 1\ndata: ä\ndata: b\n\n" + told("2-0")).encode()
    for cut in range(len(whole)):
        parser = SseParser()
        events = [*parser.feed(whole[:cut]), *parser.feed(whole[cut:])]
        assert [(e.event, e.id) for e in events] == [("message", "1"), ("task.started", "2-0")]
        assert (events[0].data, parser.last_id) == ("ä\nb", "2-0")
