"""The parser of server-sent events, line by line of WHATWG HTML, 9.2.6."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streammesh.client.sse import EventTooLong, ServerSentEvent, SseParser


def parse(*chunks: bytes) -> list[tuple[str, str, str]]:
    parser = SseParser()
    return [(e.event, e.data, e.id) for chunk in chunks for e in parser.feed(chunk)]


# From the examples of the specification, and each of its rules.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
        (b": test stream\n\ndata: first event\nid: 1\n\n", [("message", "first event", "1")]),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
        (
            b"data:test\n\ndata: test\n\ndata:  x\n\n",
            [("message", "test", ""), ("message", "test", ""), ("message", " x", "")],
        ),
        (b"\xef\xbb\xbfdata: with a mark\n\n", [("message", "with a mark", "")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: two\n\ndata: x\n\n", [("message", "x", "")]),
        (b"data: x\n\xef\xbb\xbfdata: y\n\n", [("message", "x", "")]),
        (b"id: 1\ndata: x\n\nid\ndata: y\n\n", [("message", "x", "1"), ("message", "y", "")]),
        (b"id: 1\ndata: x\n\nid: 2\0\ndata: y\n\n", [("message", "x", "1"), ("message", "y", "1")]),
        (b"event: a\n\ndata: x\n\n", [("message", "x", "")]),
        (b"event: a\nevent: b\ndata: x\n\n", [("b", "x", "")]),
        (b"DATA: x\n data: y\nother: z\ndata : w\n\n", []),
        (b"data: \xff\n\n", [("message", "\ufffd", "")]),
        (b"data: never whole\n", []),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_a_stream_is_read_as_the_specification_says(text: bytes, expected: object, end: bytes) -> None:
    raw = text.replace(b"\n", end)
    assert parse(raw) == expected
    assert parse(*(raw[i : i + 1] for i in range(len(raw)))) == expected


def test_line_ends_may_be_mixed() -> None:
    assert parse(b"data: a\r\ndata: b\rdata: c\n\r\n") == [("message", "a\nb\nc", "")]
    assert parse(b"data: a\r", b"\n\r", b"\n", b"data: b\n\n") == [("message", "a", ""), ("message", "b", "")]
    assert parse(b"data: a\r\r", b"data: b\r\r") == [("message", "a", ""), ("message", "b", "")]


def test_the_time_to_reconnect_is_digits_or_left_out() -> None:
    parser = SseParser()
    parser.feed(b"retry: 500\nretry: -1\nretry: 1.5\nretry:\nretry: \xd9\xa1\nretry: " + b"9" * 99 + b"\n\n")
    assert parser.retry_ms == 500


def test_a_block_without_data_moves_the_position() -> None:
    parser = SseParser()
    assert parser.feed(b": heartbeat\nid: 9-0\n\nid: 10-0\n") == []
    assert parser.last_id == "9-0"


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 99, b"data: x\n", b"x", b"id: " + b"y" * 99])
def test_what_has_no_end_is_given_up(piece: bytes) -> None:
    parser = SseParser(largest=1000)
    with pytest.raises(EventTooLong):
        for _ in range(2000):
            parser.feed(piece)


def test_comments_without_end_are_not_kept() -> None:
    parser = SseParser(largest=1000)
    for _ in range(500):
        assert parser.feed(b": still here\n") == []
    assert parser.feed(b"data: x\n\n") == [ServerSentEvent("message", "x", "")]


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 7))
def test_wherever_bytes_are_cut_the_same_is_read(parts: list[bytes], size: int) -> None:
    raw = b"\n".join([b"data: a", *parts, b"", b"id: 2", b"data: b", b"", b""])
    whole = SseParser()
    cut = SseParser()
    expected = whole.feed(raw)
    found = [event for i in range(0, len(raw), size) for event in cut.feed(raw[i : i + size])]
    assert (found, cut.last_id, cut.retry_ms) == (expected, whole.last_id, whole.retry_ms)
