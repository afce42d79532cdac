"""One trace from who publishes over the attempts of a handler to what follows, as an OTLP receiver gets it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from streammesh.embedded import free_port
from streammesh.telemetry import spans
from streammesh.testing.conditions import wait_until

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
