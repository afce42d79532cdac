"""Several subscriptions over one WebSocket, on the real server, with a real client."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect
from streammesh.api_keys import ApiKeys
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.api.settings import ApiSettings
from services.api.web_socket import MESSAGE_BYTES, MOST_ERRORS, MOST_SUBSCRIPTIONS, SocketSession


@pytest.fixture
def api_settings() -> ApiSettings:
    return ApiSettings(
        _env_file=None,
        port=0,
        heartbeat=timedelta(milliseconds=200),
        drain=timedelta(seconds=2),
        key_lifetime=timedelta(seconds=1),
        key_refresh=timedelta(milliseconds=300),
    )


class Socket:
    def __init__(self, real) -> None:
        self.real = real

    async def say(self, **message) -> None:
        await self.real.send(json.dumps(message))

    async def hear(self, *kinds: str) -> dict[str, Any]:
        """The next message that is none of these."""
        async with asyncio.timeout(5):
            while True:
                heard = json.loads(await self.real.recv())
                if heard["type"] not in ("heartbeat", *kinds):
                    return heard

    async def notes(self, n: int) -> list[tuple[str, str, str]]:
        heard = [await self.hear("subscribed") for _ in range(n)]
        return [(one["id"], one["notification"]["type"], one["position"]) for one in heard]

    async def ended(self) -> tuple[int, str]:
        async with asyncio.timeout(6):
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await self.real.recv()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.fixture
def opened(live, admin):
    @asynccontextmanager
    async def opened(key: str | None = admin, query: str = ""):
        url = str(live.base_url).replace("http", "ws").rstrip("/") + "/v1/notifications/ws" + query
        async with connect(url, compression=None) as real:
            socket = Socket(real)
            if key is not None:
                await socket.say(type="authorize", token=key)
                assert (await socket.hear())["type"] == "welcome"
            yield socket

    return opened


@pytest.fixture
async def order(live, mesh):
    await mesh.subscribe("worker", "order.placed")

    async def order(subject: str) -> str:
        sent = await live.post("/v1/events", json={"type": "order.placed", "subject": subject})
        await mesh.dispatch("order", "worker")
        return sent.json()["id"]

    return order


async def test_each_subscription_gets_what_it_wants_and_no_more(opened, order):
    async with opened() as socket:
        await socket.say(type="subscribe", id="a", subject="order/1")
        await socket.say(type="subscribe", id="b", glob="order.*")
        assert {(await socket.hear())["id"], (await socket.hear())["id"]} == {"a", "b"}
        await order("order/1")
        first = await socket.notes(2)
        await order("order/2")
        ((name, kind, _),) = await socket.notes(1)

    assert sorted(one[:2] for one in first) == [("a", "task.queued"), ("b", "task.queued")]
    assert (name, kind) == ("b", "task.queued")


async def test_it_resumes_after_a_position_with_nothing_missed_and_nothing_twice(opened, order):
    for number in range(3):
        await order(f"order/{number}")
    async with opened() as socket:
        await socket.say(type="subscribe", id="all", after="0")
        first = await socket.notes(2)
    async with opened() as socket:
        await socket.say(type="subscribe", id="all", after=first[-1][2])
        rest = await socket.notes(1)
        await order("order/3")
        rest += await socket.notes(1)

    places = [one[2] for one in first + rest]
    assert len(set(places)) == 4 and places == sorted(places)


async def test_who_unsubscribes_is_told_no_more_and_frees_the_place(opened, order, door):
    async with opened() as socket:
        await socket.say(type="subscribe", id="a")
        await socket.say(type="subscribe", id="b")
        await socket.hear(), await socket.hear()
        await socket.say(type="unsubscribe", id="a")
        assert (await socket.hear()) == {"type": "unsubscribed", "id": "a"}
        await order("order/1")
        assert [one[0] for one in await socket.notes(1)] == ["b"]
    async with asyncio.timeout(3):
        while door.app.state.wiring.hub.open_streams:
            await asyncio.sleep(0.01)


async def test_a_quiet_subscription_is_told_how_far_it_is(opened):
    async with opened() as socket:
        await socket.say(type="subscribe", id="a")
        await socket.hear()
        async with asyncio.timeout(3):
            heard = json.loads(await socket.real.recv())
    assert heard["type"] == "heartbeat" and heard["id"] == "a" and "-" in heard["position"]


async def test_a_token_in_the_address_or_the_first_message_is_narrow(live, opened, order):
    made = await live.post("/v1/tokens", json={"subject": "order/2"})
    token = made.json()["token"]
    for key, query in ((token, ""), (None, f"?token={token}")):
        async with opened(key, query) as socket:
            await socket.say(type="subscribe", id="a")
            await order("order/1")
            wanted = await order("order/2")
            heard = await socket.hear("welcome", "subscribed")
            assert heard["notification"]["event"]["id"] == wanted


@pytest.mark.parametrize("key", ["not-a-key-of-anybody-here", "smt_made-up"])
async def test_who_is_nobody_is_sent_away(opened, key):
    async with opened(None) as socket:
        await socket.say(type="authorize", token=key)
        assert (await socket.ended())[0] == 3000


async def test_who_says_something_else_first_is_sent_away(opened):
    async with opened(None) as socket:
        await socket.say(type="subscribe", id="a")
        assert (await socket.ended())[0] == 3000


async def test_a_key_in_the_address_is_refused(opened, admin):
    async with opened(None, f"?token={admin}") as socket:
        assert (await socket.ended())[0] == 3003


async def test_a_revoked_key_loses_the_connection(opened, make_key, mesh_redis, mesh_keys):
    key = await make_key("page", subscribe=["order.*"])
    async with opened(key) as socket:
        await socket.say(type="subscribe", id="a")
        await socket.hear()
        await ApiKeys(mesh_redis, mesh_keys).revoke("page")
        assert (await socket.ended())[0] == 3000


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "{}",
        '{"type":"subscribe"}',
        '{"type":"subscribe","id":5}',
        '{"type":"subscribe","id":"a","after":"tomorrow"}',
        '{"type":"subscribe","id":"a","topic":"x"}',
        '{"type":"unsubscribe","id":"a"}',
        '{"type":"launch","id":"a"}',
        b"bytes",
    ],
)
async def test_a_wrong_message_is_answered_and_the_rest_goes_on(opened, order, text):
    async with opened() as socket:
        await socket.real.send(text)
        wrong = await socket.hear()
        assert wrong["type"] == "error" and wrong["detail"]
        await socket.say(type="subscribe", id="b")
        await socket.hear()
        await order("order/1")
        assert len(await socket.notes(1)) == 1


async def test_who_is_always_wrong_is_sent_away(opened):
    async with opened() as socket:
        for _ in range(MOST_ERRORS):
            await socket.real.send("?")
        assert (await socket.ended())[0] == 1008


async def test_a_message_that_is_too_large_ends_it(opened):
    async with opened() as socket:
        await socket.real.send("x" * (MESSAGE_BYTES + 1))
        assert (await socket.ended())[0] == 1009


async def test_subscriptions_are_bounded_and_of_one_name_each(opened):
    async with opened() as socket:
        for number in range(MOST_SUBSCRIPTIONS):
            await socket.say(type="subscribe", id=str(number))
            assert (await socket.hear())["type"] == "subscribed"
        await socket.say(type="subscribe", id="more")
        assert (await socket.hear())["type"] == "error"
        await socket.say(type="subscribe", id="0")
        assert "already" in (await socket.hear())["detail"]


async def test_nobody_is_left_behind_when_the_client_vanishes(opened, door):
    async with opened() as socket:
        await socket.say(type="subscribe", id="a")
        await socket.hear()
        socket.real.transport.abort()
    async with asyncio.timeout(5):
        while door.app.state.wiring.hub.open_streams:
            await asyncio.sleep(0.01)


async def test_a_connection_that_is_refused_leaves_no_fault_in_the_log(live, admin):
    seen = Faults()
    logging.getLogger("uvicorn.error").addHandler(seen)
    url = str(live.base_url).replace("http", "ws").rstrip("/") + "/v1/notifications/ws"
    try:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}?nope=1"):
                pass
        assert refused.value.response.status_code == 400
        with pytest.raises(InvalidStatus) as elsewhere:
            async with connect(url.removesuffix("/ws")):
                pass
        assert elsewhere.value.response.status_code == 404
        document = json.loads(elsewhere.value.response.body)
        assert document["detail"].endswith("/v1/notifications/ws is one.") and document["request_id"]
        async with connect(f"{url}?token=x", additional_headers={"authorization": f"Bearer {admin}"}) as real:
            assert (await Socket(real).ended())[0] == 3000
    finally:
        logging.getLogger("uvicorn.error").removeHandler(seen)
    assert seen.told == []


async def test_a_client_that_closed_while_it_was_written_to_is_gone_and_no_fault():
    """uvicorn has answered the client's close by then, and raises RuntimeError for what is sent after it."""
    lock = asyncio.Lock()
    session = SimpleNamespace(_sending=lock, _stall=1.0, _socket=SimpleNamespace(send=closed_already))
    with pytest.raises(WebSocketDisconnect):
        await SocketSession._send_bytes(session, b"{}")  # type: ignore[arg-type]
    assert not lock.locked()


async def closed_already(message) -> None:
    raise RuntimeError(f"Unexpected ASGI message {message['type']!r}, after sending 'websocket.close'.")


async def test_an_answer_of_another_kind_names_the_place_and_says_what_to_do(opened):
    async with opened() as socket:
        for message, said in (
            ({"type": "nope"}, "/type: should be one of 'authorize', 'subscribe', 'unsubscribe'"),
            ({}, "/type: is required"),
            ({"type": "subscribe", "id": "a", "glob": 1}, "/glob: should be text, or should be a list"),
            (
                {"type": "subscribe", "id": "a", "since": "1h"},
                "/since: should be an RFC 3339 time with a zone",
            ),
        ):
            await socket.real.send(json.dumps(message))
            assert said in (await socket.hear())["detail"]


async def test_a_request_that_is_no_websocket_is_told_that_the_address_is_one(api):
    answer = await api.get("/v1/notifications/ws")
    assert answer.status_code == 426 and answer.headers["upgrade"] == "websocket"
    assert "WebSocket" in answer.json()["detail"]


class Faults(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())
