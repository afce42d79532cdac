"""A queued task as a stream entry: nothing is lost on the way, and nothing that Celery would not survive gets through."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker import state
from celery.worker.consumer.consumer import Consumer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import Connection
from kombu.asynchronous.timer import Timer
from kombu.common import QoS
from kombu.utils import json as kombu_json
from streammesh.errors import Malformed
from streammesh.transport import decompression, wire_json
from streammesh.transport.codec import EntryPlace, decode, encode, make_tag, parse_tag
from streammesh.transport.message import StreamMessage
from streammesh.worker.message_capture import CapturingProducer

ENTRY = "1763790000000-0"


@pytest.fixture(scope="module")
def app() -> Celery:
    return Celery("plain", set_as_current=False)


def message_of(app: Celery, *args: Any, **options: Any) -> dict[str, Any]:
    """What Celery's own publisher would send."""
    producer = CapturingProducer()
    app.send_task("plain.add", args, producer=producer, ignore_result=True, **options)
    [(_, message)] = producer.take()
    return message


def good() -> dict[str, Any]:
    """The head of a sound entry, to be spoiled."""
    return {
        "headers": {"id": "one", "task": "plain.add", "retries": 0, "timelimit": [None, None], "lang": "py"},
        "properties": {
            "delivery_info": {"exchange": "", "routing_key": "plain"},
            "priority": 5,
            "correlation_id": "one",
        },
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }


def entry(head: Any = None, body: Any = None) -> dict[bytes, bytes]:
    def raw(value: Any) -> bytes:
        return value if isinstance(value, bytes) else json.dumps(value).encode()

    return {
        b"h": raw(good() if head is None else head),
        b"b": raw([[1, 2], {}, {}] if body is None else body),
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"countdown": 60},
        {"expires": 60, "priority": 9},
        {"time_limit": 30, "soft_time_limit": 20.5},
        {"headers": {"tenant": "café", "nested": {"a": [1, None, True]}}},
        {"stamped_headers": ["tenant"], "tenant": "a"},
        {
            "link": {
                "task": "plain.add",
                "args": [1],
                "kwargs": {},
                "options": {},
                "subtask_type": None,
                "immutable": False,
            }
        },
        {"compression": "gzip"},
        {"compression": "bzip2"},
        {"compression": "xz"},
    ],
)
def test_a_task_of_celery_comes_back_as_it_was_sent(app, options):
    sent = message_of(app, 1, "zwei", {"drei": 3.5}, **options)

    got = decode(encode(sent), "plain", ENTRY)

    assert got["headers"] == json.loads(json.dumps(sent["headers"]))
    assert got["parsed"][0] == [1, "zwei", {"drei": 3.5}]
    assert got["properties"]["correlation_id"] == sent["properties"]["correlation_id"]
    assert got["properties"]["delivery_tag"] == f"{ENTRY}@plain"


def test_nothing_that_is_made_when_reading_is_written(app):
    head = json.loads(encode(message_of(app, 1))[b"h"])

    assert "delivery_tag" not in head["properties"]
    assert "body_encoding" not in head["properties"]


def test_a_body_in_base64_is_stored_raw(app):
    sent = message_of(app, 1)
    sent["body"] = base64.b64encode(sent["body"].encode()).decode()
    sent["properties"]["body_encoding"] = "base64"

    assert decode(encode(sent), "plain", ENTRY)["parsed"][0] == [1]


def test_the_first_task_protocol_is_read_too(app):
    message = app.amqp.as_task_v1("one", "plain.add", [1], {"b": 2}, countdown=5)
    first = {"headers": {}, "properties": {}, "body": json.dumps(message.body)}
    first |= {"content-type": "application/json", "content-encoding": "utf-8"}

    assert decode(encode(first), "plain", ENTRY)["parsed"]["args"] == [1]


def test_dates_in_headers_keep_their_type():
    when = datetime(2026, 11, 22, 6, tzinfo=UTC)
    message = {"headers": {"id": "one", "task": "t", "at": when}, "properties": {}, "body": b"[[],{},{}]"}
    message |= {"content-type": "application/json", "content-encoding": "utf-8"}

    assert decode(encode(message), "plain", ENTRY)["headers"]["at"] == when


def test_numbers_that_only_python_writes_are_read():
    head = good()
    head["headers"]["score"] = float("nan")
    got = decode(entry(head, b"[[NaN, Infinity, 123456789012345678901234567890], {}, {}]"), "plain", ENTRY)

    assert got["parsed"][0][2] == 123456789012345678901234567890


@pytest.mark.parametrize(
    ("queue", "step"), [("email_worker", 0), ("email_worker", 6), ("a@b:p3", 0), ("a.6@b", 9)]
)
def test_a_delivery_tag_names_its_entry(queue, step):
    assert parse_tag(make_tag(queue, step, ENTRY)) == EntryPlace(queue, step, ENTRY)


@pytest.mark.parametrize("tag", ["", "b3c0", "x@y", "1-@q", "4f0c9a4e-6b7c-4b53-b1a2-aaaaaaaaaaaa"])
def test_a_tag_of_another_transport_is_told_apart(tag):
    with pytest.raises(ValueError, match="is not a delivery tag"):
        parse_tag(tag)


def spoiled(part: str, name: str, value: Any) -> dict[bytes, bytes]:
    head = good()
    target = head if part == "head" else head[part]
    if value is ...:
        del target[name]
    else:
        target[name] = value
    return entry(head)


def deep(levels: int, inside: str = "1") -> bytes:
    return ("[" * levels + inside + "]" * levels).encode()


BROKEN: dict[str, dict[bytes, bytes]] = {
    "no fields": {},
    "no body": {b"h": b"{}"},
    "a stock kombu message in another field": {b"payload": b"{}"},
    "head is not json": entry(head=b"\x80\x04pickle"),
    "head is not utf-8": entry(head=b'{"headers": {"id": "\xff"}}'),
    "head is a number": entry(head=b"7"),
    "head is a list": entry(head=b"[]"),
    "head is cut off": entry(head=b'{"headers": {'),
    "head has half a surrogate pair": entry(head=json.dumps(good()).replace('"one"', '"\\ud800"').encode()),
    "headers are null": spoiled("head", "headers", None),
    "headers are a list": spoiled("head", "headers", []),
    "properties are null": spoiled("head", "properties", None),
    "properties are missing": spoiled("head", "properties", ...),
    "delivery_info is text": spoiled("properties", "delivery_info", "x"),
    "content type is pickle": spoiled("head", "content-type", "application/x-python-serialize"),
    "content type is yaml": spoiled("head", "content-type", "application/x-yaml"),
    "content type is null": spoiled("head", "content-type", None),
    "content type is a number": spoiled("head", "content-type", 5),
    "content encoding is unknown": spoiled("head", "content-encoding", "klingon"),
    "content encoding is an object": spoiled("head", "content-encoding", {}),
    "body says it is base64": spoiled("properties", "body_encoding", "base64"),
    "id is an object": spoiled("headers", "id", {"a": 1}),
    "id is a number": spoiled("headers", "id", 5),
    "id is empty": spoiled("headers", "id", ""),
    "id is endless": spoiled("headers", "id", "x" * 10_000),
    "id is missing": spoiled("headers", "id", ...),
    "task is a list": spoiled("headers", "task", ["plain.add"]),
    "task is null": spoiled("headers", "task", None),
    "task is missing": spoiled("headers", "task", ...),
    "retries are text": spoiled("headers", "retries", "many"),
    "time limit is text": spoiled("headers", "timelimit", "x"),
    "time limit has three": spoiled("headers", "timelimit", [1, 2, 3]),
    "time limit of text": spoiled("headers", "timelimit", ["1", None]),
    "eta is no time": spoiled("headers", "eta", "tomorrow"),
    "eta is a number": spoiled("headers", "eta", 5),
    "expires is an object": spoiled("headers", "expires", {}),
    "shadow is an object": spoiled("headers", "shadow", {"a": 1}),
    "root id is a list": spoiled("headers", "root_id", []),
    "group is an object": spoiled("headers", "group", {}),
    "group index is text": spoiled("headers", "group_index", "x"),
    "ignore_result is text": spoiled("headers", "ignore_result", "no"),
    "stamped headers are text": spoiled("headers", "stamped_headers", "tenant"),
    "stamped headers hold objects": spoiled("headers", "stamped_headers", [{"a": 1}]),
    "stamps are a list": spoiled("headers", "stamps", []),
    "compression is a number": spoiled("headers", "compression", 5),
    "compression is unknown": spoiled("headers", "compression", "application/x-klingon"),
    "compressed body is not": spoiled("headers", "compression", "application/x-gzip"),
    "headers are nested 2,000 deep": entry(head=json.dumps(good()).replace('"py"', deep(2000).decode()).encode()),
    "priority is text": spoiled("properties", "priority", "high"),
    "reply_to is an object": spoiled("properties", "reply_to", {}),
    "correlation id is a list": spoiled("properties", "correlation_id", []),
    "body is not json": entry(body=b"hello"),
    "body is empty": entry(body=b""),
    "body is not utf-8": entry(body=b'[["\xff"], {}, {}]'),
    "body is a number": entry(body=b"5"),
    "body is an object": entry(body={}),
    "body is a pair": entry(body=[[], {}]),
    "args are an object": entry(body=[{}, {}, {}]),
    "args are text": entry(body=["ab", {}, {}]),
    "kwargs are a list": entry(body=[[], [], {}]),
    "embed is null": entry(body=[[], {}, None]),
    "callbacks are text": entry(body=[[], {}, {"callbacks": "x"}]),
    "chord is a list": entry(body=[[], {}, {"chord": []}]),
    "chain is an object": entry(body=[[], {}, {"chain": {}}]),
    "args are nested 500 deep": entry(body=b"[" + deep(500) + b", {}, {}]"),
    "args are nested 100,000 deep": entry(body=b"[" + deep(100_000) + b", {}, {}]"),
    "protocol 1 without id": entry({**good(), "headers": {}}, {"task": "plain.add", "args": [], "kwargs": {}}),
    "protocol 1 with text as args": entry({**good(), "headers": {}}, {"task": "t", "id": "1", "args": "x", "kwargs": {}}),
    "protocol 1 with no args": entry({**good(), "headers": {}}, {"task": "t", "id": "1", "kwargs": {}}),
    "protocol 1 with odd retries": entry(
        {**good(), "headers": {}}, {"task": "t", "id": "1", "args": [], "kwargs": {}, "retries": "x"}
    ),
    "a date that is none": entry(body=[[{"__type__": "datetime", "__value__": 5}], {}, {}]),
}  # fmt: skip


@pytest.mark.parametrize("fields", BROKEN.values(), ids=BROKEN)
def test_what_celery_would_not_survive_is_malformed(fields):
    with pytest.raises(Malformed) as refused:
        decode(fields, "plain", ENTRY)

    assert "klingon" not in str(refused.value), "a reason never quotes the content"


@pytest.mark.parametrize("pack", [zlib.compress, bz2.compress, lzma.compress])
def test_a_small_entry_does_not_become_a_large_one(pack, monkeypatch):
    monkeypatch.setattr(decompression, "LARGEST", 100_000)
    kind = {zlib.compress: "gzip", bz2.compress: "bz2", lzma.compress: "lzma"}[pack]
    head = good()
    head["headers"]["compression"] = f"application/x-{kind}"

    with pytest.raises(Malformed, match="larger than"):
        decode({b"h": json.dumps(head).encode(), b"b": pack(bytes(1_000_000))}, "plain", ENTRY)


def test_entries_that_are_no_tasks_need_only_what_kombu_needs():
    head = {"headers": {}, "properties": {}, "content-type": "application/json", "content-encoding": "utf-8"}

    got = decode(entry(head, {"any": "thing"}), "replies", ENTRY, task=False)

    assert (got["body"], "parsed" in got) == (b'{"any": "thing"}', False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "id",
        "task",
        "root_id",
        "parent_id",
        "group",
        "group_index",
        "shadow",
        "origin",
        "eta",
        "expires",
        "retries",
        "timelimit",
        "argsrepr",
        "kwargsrepr",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "compression",
        "lang",
        "meth",
        "delivery_info",
        "utc",
    ]
)


class _Pool:
    """Takes what Celery gives a pool, as far as it goes before a process boundary."""

    is_green, num_processes = False, 1

    def apply_async(self, target: Any, **options: Any) -> None:
        _, soft, hard = options["args"], options["soft_timeout"], options["timeout"]
        assert all(limit is None or limit == limit + 0 for limit in (soft, hard))
        options["accept_callback"](1, 0.0)
        options["callback"]((0, "None", 0.1))


class _Consumer(Consumer):
    """Celery's consumer without connection, events and remote control."""

    class Blueprint(Consumer.Blueprint):
        default_steps = ()


@pytest.fixture(scope="module")
def receive(app: Celery) -> Any:
    """What a Celery worker does with each message that it is given."""
    app.conf.update(broker_url="memory://", task_default_queue="plain")

    @app.task(name="plain.add", shared=False)
    def add(*args: Any, **kwargs: Any) -> None: ...

    pool = _Pool()
    consumer = _Consumer(
        lambda request: request.execute_using_pool(pool),
        app=app, pool=pool, timer=Timer(), controller=SimpleNamespace(state=state, semaphore=None),
    )  # fmt: skip
    consumer.event_dispatcher, consumer.qos = None, QoS(lambda **_: None, 1)
    consumer.update_strategies()
    channel = Connection("memory://").channel()
    handle = consumer.create_task_handler()
    return lambda decoded: handle(StreamMessage(decoded, channel=channel))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.dictionaries(NAMES, JSON, max_size=3),
    properties=st.dictionaries(st.sampled_from(["priority", "reply_to", "delivery_info", "correlation_id"]), JSON, max_size=2),
    embed=st.dictionaries(st.sampled_from(["callbacks", "errbacks", "chain", "chord", "x"]), JSON, max_size=2),
    protocol=st.sampled_from([1, 2]),
)  # fmt: skip
def test_what_gets_through_does_not_break_a_celery_worker(receive, headers, properties, embed, protocol):
    head = good()
    head["properties"] |= properties
    body: Any = [[1], {}, embed]
    if protocol == 1:
        body = {"id": "one", "task": "plain.add", "args": [1], "kwargs": {}, **embed, **headers}
        head["headers"] = {}
    else:
        head["headers"] |= headers
    try:
        message = decode(entry(head, body), "plain", ENTRY)
    except Malformed:
        return

    receive(message)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([b"h", b"b", b"n", b"w"]), st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode())))  # fmt: skip
def test_whatever_lies_in_the_stream_is_read_or_malformed(fields):
    for task in (True, False):
        try:
            decode(fields, "plain", ENTRY, task=task)
        except Malformed:
            pass


@pytest.mark.parametrize(
    "text",
    [
        "[1, NaN]",
        "123456789012345678901234567890",
        kombu_json.dumps({"when": datetime(2026, 11, 22, tzinfo=UTC)}),
    ],
)
def test_an_app_that_was_configured_reads_what_kombu_reads(text):
    assert repr(wire_json.loads(text)) == repr(kombu_json.loads(text))
