"""What travels from the hand-off to a handler, and between plain Celery tasks, is exact or refused."""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import serialization
from pydantic import BaseModel
from streammesh import MeshSettings, plain_json
from streammesh.events.envelope import from_checked
from streammesh.subscriptions.manifest import Delivery, Subscription
from streammesh.transport import wire_json
from streammesh.transport.codec import decode
from streammesh.transport.message import StreamMessage
from streammesh.worker.app import make_app
from streammesh.worker.message_encoder import Encoder
from streammesh.worker.refs import untyped_payload

ENTRY = "1763790000000-0"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TYPE_NAMES = st.sampled_from(["datetime", "date", "uuid", "bytes", "base64", "decimal", "mesh-plain", "odd"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
DATA = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.fixed_dictionaries({"__type__": TYPE_NAMES | inner, "__value__": inner})
    ),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    """Whether two values of JSON are the same, to the sign of a zero and the kind of a number."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return bool(a == b)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    mesh = MeshSettings(_env_file=None)
    return Encoder(make_app("dispatcher", mesh), mesh)


def delivered(encoder: Encoder, data: Any) -> StreamMessage:
    """The message of one delivery, as a worker reads it from its queue."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "a.b", "time": "", "data": data}
    wants = Delivery(Subscription("probe", "probe.echo", "a.b"), "task-1")
    made = encoder.encode(wants, json.dumps(event).encode(), 5)
    message = decode({b"h": made.header, b"b": made.body}, "probe", ENTRY)
    return StreamMessage(message, channel=SimpleNamespace(no_ack_consumers=None, decode_body=lambda b, _: b))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=DATA)
def test_a_handler_is_given_the_data_that_was_published(encoder, data):
    message = delivered(encoder, data)

    [raw], _, _ = untyped_payload(message)  # in pools that run handlers in the worker's own process
    assert same(from_checked(raw).data, data)
    accept = {wire_json.EVENT_TYPE}
    [raw], _, _ = serialization.loads(
        message.body, wire_json.EVENT_TYPE, "utf-8", accept
    )  # in a pool's child
    assert same(from_checked(raw).data, data)


@settings(max_examples=300, deadline=None)
@given(DATA)
def test_what_a_handler_returns_is_told_as_it_is(data):
    assert same(plain_json.loads(plain_json.dumps({"result": data}))["result"], data)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_word_for_is_refused_as_a_result(value):
    with pytest.raises(TypeError, match="not JSON"):
        plain_json.dumps({"result": [{"a": value}]})


@settings(max_examples=300, deadline=None)
@given(DATA)
def test_plain_tasks_are_given_what_they_were_called_with(data):
    assert same(wire_json.loads(wire_json.dumps([[data], {"k": data}, {}])), [[data], {"k": data}, {}])


MOMENT = datetime(2026, 11, 27, 12, 0, 0, 123456, tzinfo=UTC)
CELERYS = [
    *(MOMENT, date(2026, 11, 27), time(12, 30), uuid.UUID(int=7), Decimal("1.10"), b"text", b"\xff\x00"),
    *(2**64, -(2**70), 10**30, {"when": [MOMENT, {"id": uuid.UUID(int=8)}]}, -0.0, "\ud83d", math.inf),
]


@pytest.mark.parametrize("value", CELERYS, ids=repr)
def test_the_values_that_celery_knows_are_written_and_read_as_celery_does(value):
    ours, encoding, text = serialization.dumps([[value], {}, {}], "json")
    by_celery = serialization.loads(text, ours, encoding)
    assert wire_json.loads(wire_json.dumps([[value], {}, {}])) == by_celery == [[value], {}, {}]
    assert orjson.loads(json.dumps(text)) == text
    assert wire_json.dumps([[value], {}, {}]) == text  # other Celery programs read it


class Model(BaseModel):
    n: int


@dataclass
class Record:
    n: int


@pytest.mark.parametrize("value", [Model(n=1), Record(n=1)])
def test_models_and_dataclasses_may_be_given_too(value):
    assert wire_json.loads(wire_json.dumps([value])) == [{"n": 1}]
    assert sorted(wire_json.loads(wire_json.dumps({1, 2}))) == [1, 2]
