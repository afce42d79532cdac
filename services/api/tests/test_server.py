"""The real server on a real socket: what the parser refuses is a problem document, too, and costs little."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import suppress
from datetime import timedelta

import pytest
from streammesh.events.envelope import BATCH

from services.api.server import HEAD_BYTES, make_server

POST = b"POST /v1/events HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture
def talk(live):
    async def talk(request: bytes, *, end: bool = False) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
        try:
            async with asyncio.timeout(10):
                writer.write(request)
                if end:
                    writer.write_eof()
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:-2])
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                return int(head.split()[1]), headers, body
        finally:
            writer.close()

    return talk


def assert_problem(answer, status):
    found, headers, body = answer
    assert (found, headers["content-type"]) == (status, "application/problem+json"), body
    document = json.loads(body)
    assert document["status"] == status and document["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /v1/events/a\x00b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/events/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx a: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_not_http_is_a_problem_document(talk, request_):
    assert_problem(await talk(request_), 400)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 10_000_000,
        b"GET /" + b"a" * 10_000_000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(500_000)),
    ],
)
async def test_a_head_without_an_end_is_refused_while_it_arrives(live, head):
    reader, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
    sent = 0
    answered = asyncio.create_task(reader.read(65_536))
    try:
        async with asyncio.timeout(10):
            while sent < len(head) and not answered.done():
                writer.write(head[sent : sent + 16_384])
                sent += 16_384
                await writer.drain()
                await asyncio.sleep(0)
            answer = await answered
    except ConnectionResetError:
        answer = await answered
    finally:
        writer.close()

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in answer
    assert sent < HEAD_BYTES * 40


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nhost:"])
@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_who_never_finishes_a_head_is_disconnected(live, monkeypatch, begun, before):
    if before and not begun:
        return  # an idle connection is uvicorn's to close
    monkeypatch.setattr("services.api.server.HEAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
    writer.write(before + begun)

    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()

    assert answer.count(b"HTTP/1.1 200 ") == bool(before)
    assert answer.count(b"HTTP/1.1 408 ") == 1 and b"/problems/too-slow" in answer


async def test_a_body_that_does_not_come_is_not_waited_for(live, monkeypatch, admin, talk):
    monkeypatch.setattr("services.api.request_body.BODY_SECONDS", 0.2)
    head = POST + b"authorization: Bearer " + admin.encode() + b"\r\ncontent-type: application/json\r\n"

    assert_problem(await talk(head + b"content-length: 100\r\n\r\n{"), 408)


async def test_large_headers_of_a_whole_request_are_refused(talk):
    head = b"GET /v1/events HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 40_000 + b"\r\n\r\n"

    assert_problem(await talk(head), 431)


async def test_many_requests_on_one_connection_are_counted_one_by_one(talk, live, admin):
    one = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * 20_000 + b"\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
    for _ in range(20):
        writer.write(one)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
    writer.close()


async def test_a_connection_that_is_answered_before_its_body_is_read_is_closed(live, admin):
    """What was not read of a refused body is not taken for the next request, and the answer arrives all the same."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
    authorization = b"authorization: Bearer " + admin.encode() + b"\r\n"
    body = b"GET /nothing HTTP/1.1\r\n\r\n" * 20_000
    writer.write(
        POST
        + authorization
        + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        + body
    )

    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
        POST + b"content-type: application/json\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_refused(talk, head):
    assert_problem(await talk(head), 400)


async def test_http_1_0_needs_no_host(talk):
    assert (await talk(b"GET /healthz HTTP/1.0\r\n\r\n"))[0] == 200


async def test_trailers_are_no_headers(live, admin, mesh_redis, mesh_keys, talk):
    head = POST + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    trailer = b"authorization: Bearer " + admin.encode() + b"\r\nce-type: x.y\r\n"

    answer = await talk(head + b'e\r\n{"type":"a.b"}\r\n0\r\n' + trailer + b"\r\n")

    assert_problem(answer, 401)
    assert not await mesh_redis.exists(mesh_keys.events("a"))


@pytest.mark.parametrize("rest", [b"0\r\nx-trailer: ", b"0\r\n" + b"x: y\r\n" * 50_000, b"1;extension="])
async def test_trailers_and_chunk_extensions_without_an_end_are_cut(live, admin, rest):
    reader, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
    head = POST + b"authorization: Bearer " + admin.encode() + b"\r\ncontent-type: application/json\r\n"
    writer.write(head + b"transfer-encoding: chunked\r\n\r\n" + rest)
    sent = 0
    answered = asyncio.create_task(reader.read())
    with suppress(ConnectionError):
        async with asyncio.timeout(10):
            while sent < 80 * HEAD_BYTES and not answered.done():
                writer.write(b"a" * 16_384 if not rest.endswith(b"\r\n") else b"x: y\r\n" * 2_000)
                sent += 16_384
                await writer.drain()
                await asyncio.sleep(0.001)
    answer = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(5):
            answer = await answered
    writer.close()

    assert sent < 80 * HEAD_BYTES
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


async def test_empty_lines_between_requests_keep_no_connection_open(live, monkeypatch):
    monkeypatch.setattr("services.api.server.HEAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"}")

    async def drip():
        while True:
            writer.write(b"\r\n")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(5):
        rest = await reader.read()
    dripping.cancel()
    writer.close()

    assert b"/problems/too-slow" in rest


async def test_a_client_that_takes_nothing_of_an_answer_is_disconnected(live, monkeypatch, door):
    monkeypatch.setattr("services.api.server.STALL_SECONDS", 0.3)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", live.base_url.port))
    for _ in range(400):
        with suppress(BlockingIOError, ConnectionError):
            sock.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
        await asyncio.sleep(0)

    async with asyncio.timeout(5):
        while True:
            with suppress(BlockingIOError):
                try:
                    sock.send(b"\r\n")
                except ConnectionError:
                    break
            await asyncio.sleep(0.02)
    sock.close()


async def test_a_client_that_goes_away_halfway_changes_nothing(live, admin, door, mesh_redis, mesh_keys):
    head = POST + b"authorization: Bearer " + admin.encode() + b"\r\ncontent-type: application/json\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", live.base_url.port)
    writer.write(head + b'content-length: 100\r\n\r\n{"type":"order.placed"')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    async with asyncio.timeout(5):
        while door._inside:
            await asyncio.sleep(0.01)
    assert (await live.get("/healthz")).status_code == 200
    assert not await mesh_redis.exists(mesh_keys.events("order"))


async def test_chunked_bodies_and_expect_continue_work(live, admin, talk):
    head = POST + b"authorization: Bearer " + admin.encode() + b"\r\ncontent-type: application/json\r\n"

    status, _, _ = await talk(
        head + b'transfer-encoding: chunked\r\n\r\n8\r\n{"type":\r\n6\r\n"a.b"}\r\n0\r\n\r\n'
    )
    answer = await live.post("/v1/events", json={"type": "a.b"}, headers={"expect": "100-continue"})

    assert (status, answer.status_code) == (202, 202)


async def test_concurrent_publishers_each_get_their_own_answer(live, mesh_redis, mesh_keys):
    async def publish(n):
        answer = await live.post("/v1/events", json={"type": "order.placed", "id": str(n), "data": n})
        return answer.json()["id"]

    assert await asyncio.gather(*(publish(n) for n in range(300))) == [str(n) for n in range(300)]
    assert await mesh_redis.xlen(mesh_keys.events("order")) == 300


async def test_a_batch_over_a_real_connection(live):
    batch = [{"specversion": "1.0", "id": str(n), "source": "s", "type": "a.b"} for n in range(1_000)]

    answer = await live.post("/v1/events", content=json.dumps(batch), headers={"content-type": BATCH})

    assert (answer.status_code, len(answer.json()["events"])) == (202, 1_000)


async def test_a_request_that_outlasts_the_time_to_stop_is_cut_off_without_a_traceback(
    door, api_settings, admin, caplog
):
    server = make_server(door, api_settings.model_copy(update={"drain": timedelta(milliseconds=100)}))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"authorization: Bearer {admin}\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n"
    writer.write(POST + head.encode() + b'{"type"')
    while not server.server_state.tasks:
        await asyncio.sleep(0.005)

    server.should_exit = True
    async with asyncio.timeout(10):
        await serving

    with suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    assert not [record for record in caplog.records if record.exc_info], caplog.text
    assert "without" not in caplog.text


async def test_a_websocket_asked_for_by_another_method_is_refused_in_a_problem_document(live):
    answer = await live.request("POST", "/v1/ws", headers={"connection": "upgrade", "upgrade": "websocket"})

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
