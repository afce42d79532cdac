"""What other brokers carry: as it is written there and read again."""

from __future__ import annotations

from types import SimpleNamespace

import orjson
import pytest
from streammesh.brokers.copies import SINCE_HEADER, TAG, fields_of, priority_here, priority_there, tag_of

RABBITMQ, LISTS = SimpleNamespace(confirm_select=None), SimpleNamespace()


def message(channel=LISTS, **changes):
    usual = {
        "headers": {"id": "1", "task": "a.b"},
        "properties": {"correlation_id": "1", "delivery_mode": 2},
        "body": '[[],{},{"chain":null}]',
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "channel": channel,
        "delivery_tag": "7",
    }
    return SimpleNamespace(**{**usual, **changes})


@pytest.mark.parametrize(
    ("ours", "rabbitmq", "lists"), [(0, 0, 9), (9, 9, 0), (None, 5, 4), (12, 9, 0), (-1, 0, 9)]
)
def test_the_most_important_is_so_at_each_broker(ours, rabbitmq, lists):
    assert (priority_there(ours, RABBITMQ), priority_there(ours, LISTS)) == (rabbitmq, lists)


@pytest.mark.parametrize("channel", [RABBITMQ, LISTS], ids=["rabbitmq", "lists"])
def test_a_priority_comes_back_as_it_went(channel):
    assert [priority_here(priority_there(n, channel), channel) for n in range(10)] == list(range(10))


def test_a_tag_is_the_headers_where_it_is_one_and_the_delivery_tags_on_our_own_transport():
    ours = SimpleNamespace(keeper=None)
    assert tag_of(message(headers={TAG: "1-0@probe"})) == "1-0@probe"
    assert tag_of(message(ours, delivery_tag="2-0@probe")) == "2-0@probe"
    assert tag_of(message()) is None
    assert [tag_of(message(headers={TAG: other})) for other in ("", "x", 7, {"a": 1}, None)] == [None] * 5


def test_a_message_becomes_the_entry_that_it_would_be_without_what_we_added():
    headers = {"id": "1", "task": "a.b", TAG: "1-0@probe", SINCE_HEADER: "1700000000000"}
    fields = fields_of(message(headers=headers, properties={"priority": 0, "correlation_id": "1", "x": 1}))

    assert orjson.loads(fields[b"h"]) == {
        "headers": {"id": "1", "task": "a.b"},
        "properties": {"correlation_id": "1", "priority": 9},
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }
    assert (fields[b"b"], fields[b"u"]) == (b'[[],{},{"chain":null}]', b"1700000000000")


@pytest.mark.parametrize("headers", [{1: object()}, {"deep": object()}])
def test_of_what_cannot_be_written_down_something_can_be_shown(headers):
    fields = fields_of(message(headers=headers, body=b"\xff"))

    assert b"object" in fields[b"h"]
    assert set(fields) == {b"h", b"b"}
