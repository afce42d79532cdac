"""Traces of publishing: what an event carries, and that nothing is done where they are off."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from streammesh.events.encoded import seal
from streammesh.events.envelope import build
from streammesh.events.traced import traced
from streammesh.telemetry import spans

OWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"


@pytest.fixture
def exporter(monkeypatch):
    kept = InMemorySpanExporter()
    monkeypatch.setattr(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter", lambda *_, **__: kept
    )
    monkeypatch.setattr(spans, "_begun", None)
    monkeypatch.setattr(spans, "_made", None)
    return kept


def published(**extensions: str) -> tuple[dict[str, Any], str]:
    event = build("shop", "order.placed", {"n": 2**70}, id="o1", extensions=extensions)
    with traced([seal(event)]) as [sealed]:
        return orjson.loads(sealed.json.replace(b"1180591620717411303424", b"1")), sealed.digest


def finished(exporter):
    spans.end()
    return exporter.get_finished_spans()


def test_an_event_goes_on_with_its_own_trace(exporter):
    before = published(traceparent=OWN)[1]
    spans.begin("http://nobody", 1.0, "tests")
    stored, digest = published(traceparent=OWN)
    [span] = finished(exporter)
    assert stored["traceparent"] == f"00-{OWN.split('-')[1]}-{span.context.span_id:016x}-01" != OWN
    assert f"{span.parent.span_id:016x}" == OWN.split("-")[2]
    assert digest == before, "a trace is no part of what makes an event the same fact"


def test_one_without_goes_on_with_that_of_the_request_or_begins_its_own(exporter):
    spans.begin("http://nobody", 1.0, "tests")
    alone, _ = published()
    token = spans.remote_parent.set(REQUEST)
    try:
        asked, _ = published()
    finally:
        spans.remote_parent.reset(token)
    assert alone["traceparent"].split("-")[1] == spans.ids_of("shop", "o1")[0]
    assert asked["traceparent"].split("-")[1] == REQUEST.split("-")[1]


def test_what_is_not_sampled_is_left_as_it_is(exporter):
    spans.begin("http://nobody", 0.0, "tests")
    assert "traceparent" not in published()[0]
    assert not finished(exporter)


@pytest.mark.parametrize("garbage", ["", "00", "00-zz-zz-01", "x" * 1_000])
def test_garbage_begins_a_trace_of_its_own(exporter, garbage):
    spans.begin("http://nobody", 1.0, "tests")
    assert published(traceparent=garbage)[0]["traceparent"].split("-")[1] == spans.ids_of("shop", "o1")[0]


def test_nothing_of_it_is_loaded_where_it_is_off():
    code = "import streammesh.worker.app, streammesh.service, sys; print('opentelemetry.exporter' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
