"""What followers get: each thing is written once, for all who get it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from streammesh.notifications import Notification, position_key


def chunk(body: bytes) -> bytes:
    """A piece of an HTTP/1.1 body without a known length (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def named(event: str, data: object) -> bytes:
    """A server-sent event of the stream itself, without a position."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), orjson.dumps(data))


@dataclass(frozen=True, slots=True)
class Told:
    """A notification and its server-sent event, made once for all who get it."""

    note: Notification
    json: bytes  # what clients get
    frame: bytes
    chunk: bytes  # the frame as a piece of an HTTP body
    at: tuple[int, int]

    @classmethod
    def of(cls, note: Notification, at: tuple[int, int] | None = None) -> Told:
        """`at` is its place in its stream, where its `id` is the position of several.

        In the frame `id` is the position to resume from, `event` the type, `data` the JSON that clients get.

        The `id` comes last: some clients take it over as they read it, and would miss what is cut off after it.
        """
        json = note.to_json()
        frame = b"event: %b\ndata: %b\nid: %b\n\n" % (note.type.encode(), json, note.id.encode())
        return cls(note, json, frame, chunk(frame), at or position_key(note.id))


@dataclass(frozen=True, slots=True)
class Missed:
    """In place of notifications that were trimmed before this follower could have them."""

    after: str  # what was asked for

    @property
    def frame(self) -> bytes:
        """What the client knows may be out of date."""
        detail = "notifications after this position are gone; ask for the state anew"
        return named("resync", {"after": self.after, "detail": detail})

    @property
    def chunk(self) -> bytes:
        """The frame as a piece of an HTTP body."""
        return chunk(self.frame)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the past as one follower or several get it, joined once."""

    told: Sequence[Told | Missed]
    chunk: bytes

    @classmethod
    def of(cls, told: Sequence[Told | Missed]) -> Stretch:
        """Of what fits one filter, in order; not empty."""
        return cls(told, chunk(b"".join([one.frame for one in told])))
