"""One trace from who publishes over the attempts of a handler to what follows, as an OTLP receiver gets it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from streammesh.embedded import free_port
from streammesh.telemetry import spans
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess

KEY = "a-key-for-the-trace-tests-123"
URL = re.compile(r'"url":"(http://[^"]+)"')
PORT = free_port()
SERVICES = ["tests.probe_traced"]
ENVIRONMENT = {"MESH_TRACES_URL": f"http://127.0.0.1:{PORT}"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = PARENT.split("-")[1]


class Receiver:
    """Keeps the spans that are sent to it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        received = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
                for of_resource in request.resource_spans:
                    for scope in of_resource.scope_spans:
                        received.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)

    def of(self, trace: str) -> dict[str, list[Any]]:
        """The spans of a trace by their names, oldest first."""
        found: dict[str, list[Any]] = {}
        for span in sorted(self.spans, key=lambda one: one.start_time_unix_nano):
            if span.trace_id.hex() == trace:
                found.setdefault(span.name, []).append(span)
        return found


@pytest.fixture(scope="module")
def receiver():
    running = Receiver()
    thread = threading.Thread(target=running.server.serve_forever, daemon=True)
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()


async def test_attempts_and_what_they_publish_are_in_the_trace_of_the_publisher(receiver, mesh, ask):
    task = await ask.run("traced.begun", {}, extensions={"traceparent": PARENT})
    assert (task.state, task.attempt) == ("succeeded", 2), task.error
    [after] = task.events
    await ask.ended(after["id"])

    async def whole():
        found = receiver.of(TRACE)
        ended = len(found.get("process probe_traced.end", [])) == 1
        return found if ended and "hand off traced.begun" in found else None

    found = await wait_until("the spans have come", whole, seconds=20)
    first, second = found["process probe_traced.begin"]
    [handed] = found["hand off traced.begun"]
    assert handed.parent_span_id.hex() == PARENT.split("-")[2]
    assert handed.start_time_unix_nano < handed.end_time_unix_nano <= second.end_time_unix_nano
    assert [span.parent_span_id.hex() for span in (first, second)] == [PARENT.split("-")[2]] * 2
    assert [link.span_id for link in second.links] == [first.span_id]
    assert first.status.code == 2, "the first attempt failed"
    [last] = found["process probe_traced.end"]
    assert last.parent_span_id == second.span_id
    attributes = {one.key: one.value for one in second.attributes}
    assert attributes["messaging.system"].string_value == "streammesh"
    assert attributes["streammesh.task.id"].string_value == task.id


async def test_what_is_pushed_to_who_follows_is_in_the_trace_and_carries_it_on(receiver, mesh, ask):
    env = {**mesh.env, "API_PORT": "0", "API_ADMIN_KEY": KEY, "REPORT_STORE_URL": str(mesh.folder / "store")}
    parent = PARENT.replace("0af7", "1bf7")
    api = MeshProcess("api", "services.api", env, mesh.folder).start()
    try:
        found = await wait_until(
            "the API listens", lambda: _later(URL.search(api.log.read_text())), seconds=40
        )
        async with (
            httpx.AsyncClient(base_url=found[1], headers={"authorization": f"Bearer {KEY}"}) as client,
            client.stream("GET", "/v1/notifications", params={"type": "task.succeeded"}) as told,
        ):
            lines = told.aiter_lines()
            assert await anext(lines) == ": connected"
            event_id = await ask.publish("traced.ended", {}, extensions={"traceparent": parent})
            async with asyncio.timeout(20):
                [data] = [json.loads(line[6:]) async for line in _until(lines, "data: {")]
        assert data["event"]["id"] == event_id
        assert data["event"]["traceparent"] == parent

        async def pushed():
            return receiver.of(parent.split("-")[1]).get("push task.succeeded")

        [push] = await wait_until("the span has come", pushed, seconds=20)
    finally:
        api.stop()
    assert push.parent_span_id.hex() == parent.split("-")[2]
    attributes = {one.key: one.value for one in push.attributes}
    assert attributes["streammesh.followers"].int_value == 1
    assert attributes["cloudevents.event_id"].string_value == event_id
    assert 0 <= push.end_time_unix_nano - push.start_time_unix_nano < 10e9


async def _until(lines, beginning):
    """Lines up to the first with this beginning, of which alone it is."""
    async for line in lines:
        if line.startswith(beginning) and '"task.succeeded"' in line:
            yield line
            return


async def test_the_log_of_a_handler_carries_the_ids(receiver, mesh, ask):
    await ask.run("traced.begun", {}, extensions={"traceparent": PARENT})
    log = (mesh.folder / "probe_traced.log").read_text()
    said = [json.loads(line) for line in log.splitlines() if '"traced.said"' in line]
    assert said and {line["trace_id"] for line in said} >= {TRACE}


async def test_an_event_without_a_trace_begins_one_that_is_the_same_everywhere(receiver, ask):
    event_id = await ask.publish("traced.ended", {})
    [task] = await ask.ended(event_id)
    trace, _ = spans.ids_of("tests", event_id)
    found = await wait_until(
        "its spans have come", lambda: _later(len(receiver.of(trace)) == 2 and receiver.of(trace)), seconds=20
    )
    assert set(found) == {"process probe_traced.end", "hand off traced.ended"}
    assert task.state == "succeeded"


async def _later(found):
    return found or None
