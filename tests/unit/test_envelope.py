"""CloudEvents in and out."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streammesh.errors import EventTooLarge, InvalidEvent
from streammesh.events import envelope

GOOD = {
    "specversion": "1.0",
    "id": "1",
    "source": "shop",
    "type": "order.placed",
    "time": "2026-11-22T06:00:00Z",
}
NOW = datetime(2026, 11, 22, tzinfo=UTC)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def pointers(error: pytest.ExceptionInfo[InvalidEvent]) -> list[str]:
    return [e.pointer for e in error.value.errors]


@given(data=json_values, subject=st.none() | st.from_regex(r"[a-z/0-9]{1,40}", fullmatch=True))
def test_what_goes_out_comes_in_again(data, subject):
    event = envelope.make("order.placed", data, source="shop", subject=subject)

    again = envelope.from_json(event.to_json())

    assert again == event
    assert again.digest() == event.digest()


def test_the_time_and_the_trace_do_not_make_another_fact_but_the_data_does():
    one = envelope.from_dict({**GOOD, "data": {"n": 1}})
    same = envelope.from_dict(
        {**GOOD, "data": {"n": 1}, "time": "2027-01-01T00:00:00Z", "traceparent": "00-1-2-3"}
    )
    other = envelope.from_dict({**GOOD, "data": {"n": 2}})

    assert one.digest() == same.digest() != other.digest()


def test_a_plain_body_gets_what_is_missing():
    event = envelope.from_dict({"type": "order.placed"}, defaults=envelope.Defaults("key-name", NOW))

    assert (event.source, event.time) == ("key-name", "2026-11-22T00:00:00.000Z")
    assert event.id


def test_binary_mode_carries_json_as_data_and_anything_else_untouched():
    headers = {f"ce-{name}": value for name, value in GOOD.items()} | {"ce-subject": "caf%C3%A9"}

    as_json = envelope.from_binary({**headers, "content-type": "application/json"}, b'{"n":1}', 1000)
    as_bytes = envelope.from_binary({**headers, "content-type": "image/png"}, b"\x89PNG", 1000)

    assert (as_json.data, as_json.subject) == ({"n": 1}, "café")
    assert base64.b64decode(as_bytes.data_base64) == b"\x89PNG"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"type": None}, "/type"),
        ({"type": "Order.Placed"}, "/type"),
        ({"type": "order"}, "/type"),
        ({"type": "order." + "x" * 130}, "/type"),
        ({"id": ""}, "/id"),
        ({"id": 5}, "/id"),
        ({"source": "a\x00b"}, "/source"),
        ({"subject": "a\r\nb"}, "/subject"),
        ({"specversion": "0.3"}, "/specversion"),
        ({"time": "yesterday"}, "/time"),
        ({"time": "2026-11-22T06:00:00"}, "/time"),
        ({"deliverat": "2026-13-40T06:00:00Z"}, "/deliverat"),
        ({"priority": 10}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"Upper": "x"}, "/Upper"),
        ({"a/b": "x"}, "/a~1b"),
        ({"extension": {"n": 1}}, "/extension"),
        ({"extension": 2**40}, "/extension"),
        ({"data_base64": "not base64!"}, "/data_base64"),
        ({"data": 1, "data_base64": "AAAA"}, "/data_base64"),
    ],
)
def test_a_wrong_field_is_named(change, pointer):
    raw = {k: v for k, v in {**GOOD, **change}.items() if v is not None}

    with pytest.raises(InvalidEvent) as refused:
        envelope.from_dict(raw)

    assert pointers(refused) == [pointer]


def test_sixty_four_levels_are_taken_and_one_more_is_not():
    def nested(levels):
        return b"[" * levels + b"]" * levels

    assert envelope.parse_json(nested(64), 10_000)
    for levels in (65, 500, 5000):
        with pytest.raises(InvalidEvent):
            envelope.parse_json(nested(levels), 100_000)


def test_brackets_inside_text_are_not_levels():
    assert envelope.parse_json(orjson.dumps({"text": "[{" * 200}), 10_000)


def test_too_many_bytes_are_refused_before_they_are_parsed():
    with pytest.raises(EventTooLarge):
        envelope.parse_json(b"[" * 2_000, 1_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_clear_error(body):
    try:
        envelope.from_dict(envelope.parse_json(body, 1_000))
    except (InvalidEvent, EventTooLarge) as error:
        assert str(error)
