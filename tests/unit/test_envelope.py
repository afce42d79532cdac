"""CloudEvents in and out."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streammesh.errors import EventTooLarge, InvalidEvent, MalformedJson
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
    | st.integers()
    | st.integers(-(10**200), 10**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def binary(attributes):
    return [(f"ce-{name}", value.encode()) for name, value in attributes.items()]


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
    headers = binary({**GOOD, "subject": "caf%C3%A9"})

    as_json = envelope.from_binary([*headers, ("content-type", b"application/json")], b'{"n":1}', 1000)
    as_bytes = envelope.from_binary([*headers, ("content-type", b"image/png")], b"\x89PNG", 1000)

    assert (as_json.data, as_json.subject) == ({"n": 1}, "café")
    assert base64.b64decode(as_bytes.data_base64) == b"\x89PNG"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"type": None}, "/type"),
        ({"type": "order\nplaced"}, "/type"),
        ({"type": "order." + "x" * 251}, "/type"),
        ({"x" * 65: "too long a name"}, "/" + "x" * 40),
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

    for around in (0, envelope.IN_ENVELOPE, envelope.IN_BATCH):
        assert envelope.parse_json(nested(64 + around), 10_000, around)
        for levels in (65 + around, 500, 5000):
            with pytest.raises(InvalidEvent):
                envelope.parse_json(nested(levels), 100_000, around)


def test_data_of_sixty_four_levels_comes_back_from_where_it_is_stored():
    body = b"[" * 64 + b"]" * 64
    event = envelope.from_binary([*binary(GOOD), ("content-type", b"application/json")], body, 1000)

    assert envelope.from_json(event.to_json()) == event


@pytest.mark.parametrize("data", [float("nan"), [float("-inf")], {"a": "\ud800"}, {1: 2}, object()])
def test_what_no_json_can_hold_is_refused_where_the_event_is_made(data):
    with pytest.raises(InvalidEvent) as refused:
        envelope.make("order.placed", data, source="shop").to_json()

    assert pointers(refused) == ["/data"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"NaN", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"1e400", "1e400"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"1" * 4301, "4,300"),
        (b"[" * 70 + b"1" * 400 + b"]" * 70, "deeper"),
    ],
)
def test_json_that_would_not_come_out_as_it_came_in_is_refused_and_says_why(text, says):
    with pytest.raises(InvalidEvent, match=says) as refused:
        envelope.parse_json(text, 10_000)

    assert not isinstance(refused.value, MalformedJson)


@pytest.mark.parametrize("text", [b"", b"{", b"[1,]", b'"\xff"', b"nul", b"1" * 400 + b"x", b"\xef\xbb\xbf1"])
def test_what_is_no_json_is_said_to_be_none(text):
    with pytest.raises(MalformedJson):
        envelope.parse_json(text, 10_000)


def test_two_long_integers_that_one_double_stands_for_are_two_facts():
    one, other = (envelope.make("a.b", 10**30 + n, source="s", id="1") for n in (0, 1))

    assert one.digest() != other.digest()


def test_null_as_data_is_something_else_than_no_data():
    null = envelope.from_dict({**GOOD, "data": None})
    none = envelope.from_dict(dict(GOOD))

    assert null.to_dict()["data"] is None
    assert "data" not in none.to_dict()
    assert null.digest() != none.digest()


def test_of_an_attribute_null_means_that_it_is_not_set():
    event = envelope.from_dict(
        {**GOOD, "subject": None, "extension": None, "time": None, "data_base64": None}
    )

    assert event.subject is None
    assert event.extensions == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b'"quoted \\"words\\" %22"', 'quoted "words" "'),
        (b"100%", "100%"),
        ("plain ü".encode(), "plain ü"),
    ],
)
def test_a_header_is_unquoted_and_percent_decoded(value, text):
    event = envelope.from_binary([*binary(GOOD), ("ce-subject", value)], b"", 1000)

    assert event.subject == text


@pytest.mark.parametrize("value", [b"%C0%A0", b"%ED%A0%80", b"%FF", b"\xe4"])
def test_a_header_that_is_no_utf_8_is_refused(value):
    with pytest.raises(InvalidEvent) as refused:
        envelope.from_binary([*binary(GOOD), ("ce-subject", value)], b"", 1000)

    assert pointers(refused) == ["/subject"]


@pytest.mark.parametrize(
    "content_type", ["text/csv; charset=Shift_JIS", "application/json; charset=iso-8859-1", "x/y; a=b; c"]
)
def test_data_of_any_kind_keeps_its_bytes_and_the_name_of_its_kind(content_type):
    body = bytes(range(256))
    event = envelope.from_binary([*binary(GOOD), ("content-type", content_type.encode())], body, 1000)

    assert base64.b64decode(event.data_base64) == body
    assert event.datacontenttype == content_type


def test_an_attribute_that_is_said_twice_is_refused():
    with pytest.raises(InvalidEvent):
        envelope.from_binary([*binary(GOOD), ("ce-type", b"another.type")], b"", 1000)


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
