"""A head that is made from one that was read before is what reading it would have given."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json
from streammesh import plain_json
from streammesh.transport import wire_json
from streammesh.transport.codec import decode
from streammesh.transport.codec_cache import MOST, KnownHeads

ONE, OTHER = "fac1ea0a-2d62-59fa-ace3-af31c742d68c", "0a1b2c3d-0000-4000-8000-00000000002a"


def head(task_id, **headers):
    return {
        "headers": {
            "task": "mail.send", "id": task_id, "root_id": task_id, "parent_id": None,
            "timelimit": [None, 30], "stamps": {}, **headers,
        },
        "properties": {"correlation_id": task_id, "priority": 5, "delivery_info": {"routing_key": "mail"}},
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }  # fmt: skip


def read_twice(first, second):
    heads = KnownHeads()
    heads.remember(orjson.dumps(first), orjson.loads(orjson.dumps(first)))
    return heads.like(orjson.dumps(second))


def test_the_next_head_of_the_kind_is_made_with_its_own_id():
    assert read_twice(head(ONE), head(OTHER)) == head(OTHER)


@pytest.mark.parametrize(
    "other",
    [
        head(OTHER, task="mail.other"),
        head(OTHER, root_id=ONE),
        head(OTHER, parent_id=OTHER),
        head(OTHER, timelimit=[1, 30]),
        head("not-an-id"),
        head(OTHER, shadow="\0"),
    ],
    ids=["task", "root", "parent", "limit", "id", "nul"],
)
def test_a_head_that_differs_in_more_than_its_id_is_read(other):
    assert read_twice(head(ONE), other) is None


@pytest.mark.parametrize(
    "first",
    [
        head(ONE, shadow=f"about {ONE}"),
        head(ONE, stamps={"of": ONE}),
        head(ONE, stamps={"deep": {}}),
        head(ONE, eta="2026-01-01T00:00:00Z"),
        head(ONE, expires="2026-01-01T00:00:00Z"),
    ],
    ids=["within-text", "below", "deep", "eta", "expires"],
)
def test_a_head_whose_kind_is_not_plain_is_not_kept(first):
    text = orjson.dumps(first).replace(ONE.encode(), OTHER.encode())
    heads = KnownHeads()
    heads.remember(orjson.dumps(first), first)

    assert heads.like(text) is None


def test_what_one_reader_does_to_a_head_the_next_does_not_see():
    heads = KnownHeads()
    heads.remember(orjson.dumps(head(ONE)), head(ONE))
    made = heads.like(orjson.dumps(head(OTHER)))
    made["headers"]["stamps"]["x"] = made["headers"]["y"] = 1
    made["headers"]["timelimit"].append(1)
    made["properties"]["z"] = 1

    assert heads.like(orjson.dumps(head(OTHER))) == head(OTHER)


def test_many_kinds_take_no_more_room_than_the_most():
    heads = KnownHeads()
    for number in range(MOST + 10):
        heads.remember(orjson.dumps(head(ONE, n=number)), head(ONE, n=number))

    assert len(heads._known) <= MOST


@given(st.text(max_size=40), st.sampled_from([ONE, OTHER]), st.booleans())
def test_decoding_twice_is_decoding_once(shadow, task_id, redelivered):
    fields = {
        b"h": orjson.dumps(head(task_id, shadow=shadow)),
        b"b": b'[[{"n": 1}], {}, {"callbacks": null}]',
    }
    first = decode(fields, "mail", "1-1", redelivered=redelivered)
    again = decode(fields, "mail", "1-1", redelivered=redelivered)

    assert first == again
    assert first["headers"] == orjson.loads(fields[b"h"])["headers"]


@given(st.binary(max_size=80), st.integers(min_value=10**19, max_value=10**30), st.binary(max_size=80))
def test_no_long_number_is_taken_for_a_short_one(before, number, after):
    assert plain_json.has_long_integer(before + str(number).encode() + after)


@given(st.integers(), st.integers(min_value=0, max_value=30))
def test_numbers_are_read_as_kombu_reads_them(number, blanks):
    text = b"[" + b" " * blanks + str(number).encode() + b"]"

    assert wire_json.loads(text) == kombu_json.loads(text)
