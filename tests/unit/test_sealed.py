"""An event as it is stored: the short way and the long way come to the same."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streammesh.errors import InvalidEvent
from streammesh.events import encoded, envelope
from streammesh.events.encoded import seal
from streammesh.events.validation import MAX_ATTRIBUTE

GOOD = {
    "specversion": "1.0",
    "id": "1",
    "source": "shop",
    "type": "order.placed",
    "time": "2026-11-22T06:00:00Z",
}
odd = st.sampled_from(
    [
        *(
            "",
            " ",
            "a b",
            "a\n",
            "\n",
            "\x00",
            "\u00a0",
            "\u2028",
            "\ufdd0",
            "é",
            "x" * 1024,
            "x" * 1025,
            "1.0",
        ),
        *("order.placed", "order.placed\n", "order", "Order.Placed", "é:*?", "order." + "x" * 251),
        *(
            "2026-11-22T06:00:00Z",
            "2026-11-22t06:00:00.5+01:00",
            "2026-13-40T06:00:00Z",
            "2026-11-22T06:00:00",
        ),
        *("AAAA", None, True, False, 0, 5, 10, -1, 2**31, 1.5, [], {}, [1], {"b": 1, "a": [None]}),
    ]
)
names = st.sampled_from(
    [
        *("specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data"),
        *(
            "data_base64",
            "priority",
            "deliverat",
            "expirytime",
            "traceparent",
            "partitionkey",
            "Upper",
            "a/b",
            "",
        ),
    ]
)


def pointers(error: pytest.ExceptionInfo[InvalidEvent]) -> list[str]:
    return [e.pointer for e in error.value.errors]


def the_long_way(raw):
    try:
        return seal(envelope.from_dict(raw, at="/0"))
    except InvalidEvent as error:
        return error.errors


def the_short_way(raw):
    try:
        return encoded.from_batch([orjson.loads(orjson.dumps(raw))])[0]
    except InvalidEvent as error:
        return error.errors


@given(changes=st.dictionaries(names, odd, max_size=3), without=st.sets(names, max_size=1))
def test_a_batch_is_judged_and_stored_as_single_events_are(changes, without):
    raw = {
        name: value for name, value in {**GOOD, **changes}.items() if name not in without or name == "time"
    }

    long, short = the_long_way(raw), the_short_way(raw)

    if raw["time"] is None and isinstance(long, encoded.Sealed):  # each was given its own time
        assert (short[:5], envelope.from_json(short.json).digest()) == (long[:5], long.digest)
    elif isinstance(long, encoded.Sealed):
        assert (short[:5], orjson.loads(short.json)) == (long[:5], orjson.loads(long.json))
    else:
        assert short == long


def test_what_is_stored_can_be_read_and_has_the_same_digest():
    raw = {**GOOD, "subject": "order/1", "data": {"b": 1, "a": {"d": [], "c": None}}}

    stored = encoded.from_dict(dict(raw))
    event = envelope.from_json(stored.json)

    assert event == envelope.from_dict(raw)
    assert stored == seal(event)._replace(json=stored.json)
    assert list(event.data) == ["b", "a"]  # as it was sent


def test_events_of_a_batch_without_a_time_are_given_one():
    raw = {name: value for name, value in GOOD.items() if name != "time"}

    for stored in encoded.from_batch([dict(raw), {**raw, "time": None}, {**raw, "priority": 3}]):
        assert envelope.from_json(stored.json).time.endswith("Z")


def test_every_wrong_event_of_a_batch_is_named_and_none_is_taken():
    with pytest.raises(InvalidEvent) as refused:
        encoded.from_batch([dict(GOOD), {**GOOD, "type": "x\n"}, 7])

    assert pointers(refused) == ["/1/type", "/2"]


def test_long_texts_are_not_remembered():
    for field in ("type", "time"):
        with pytest.raises(InvalidEvent):
            encoded.from_dict({**GOOD, field: "x" * (MAX_ATTRIBUTE + 1)})
