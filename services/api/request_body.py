"""Reads request bodies: never more than allowed, and only what the content type says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope
from streammesh.errors import InvalidEvent, MalformedJson
from streammesh.events import envelope

from services.api.problems import Problem, pointers

Headers = Mapping[bytes, bytes]
SLOWEST = 32_768  # bytes a second of a long upload
BODY_SECONDS = 60  # an event arrives within milliseconds; who takes longer holds a place and sends nothing


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers by lower-case name; of repeated ones the last."""
    return dict(scope["headers"])


def media_type(headers: Headers) -> str:
    """The content type without its parameters, in lower case; empty when there is none."""
    return headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1").strip().lower()


def refuse_charset(headers: Headers) -> None:
    """Raises Problem for a charset other than UTF-8, where the body is JSON that is read here."""
    if not envelope.is_utf8(headers.get(b"content-type", b"").decode("latin-1")):
        raise Problem("unsupported-media-type", "Only UTF-8 is understood; leave `charset` away.")


def refuse_encoding(headers: Headers) -> None:
    """Raises Problem for a compressed body: a few bytes could stand for any number."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b""):
        raise Problem(
            "unsupported-media-type",
            "Compressed bodies are not taken; send the body as it is, without Content-Encoding.",
            headers={"accept-encoding": "identity"},
        )


async def read(receive: Receive, headers: Headers, limit: int, what: str = "a body") -> bytes:
    """The whole body. Raises Problem as soon as it has more than `limit` bytes, or takes longer than a minute."""
    _check_said(headers, limit, what)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, limit, what)
    except TimeoutError:
        raise Problem("too-slow", f"The body did not arrive within {BODY_SECONDS} s.") from None


async def _read(receive: Receive, limit: int, what: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientDisconnect
        part = event.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit, what)
        if not event.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


def limited(receive: Receive, headers: Headers, limit: int, what: str) -> Receive:
    """`receive` for parsers that read by themselves: it raises Problem over `limit` bytes, and when they come
    slower than `SLOWEST` after the first minute.
    """
    _check_said(headers, limit, what)
    size = 0
    began = asyncio.get_running_loop().time()

    async def counted() -> Message:
        nonlocal size
        try:
            async with asyncio.timeout_at(began + BODY_SECONDS + size / SLOWEST):
                event = await receive()
        except TimeoutError:
            raise Problem("too-slow", f"{what[:1].upper()}{what[1:]} arrives too slowly.") from None
        if event["type"] == "http.disconnect":
            raise ClientDisconnect
        size += len(event.get("body", b""))
        if size > limit:
            raise too_large(limit, what)
        return event

    return counted


def _check_said(headers: Headers, limit: int, what: str) -> None:
    said = headers.get(b"content-length", b"")
    if said.isdigit() and int(said[:20]) > limit:
        raise too_large(limit, what)


def too_large(limit: int, what: str) -> Problem:
    """413, saying how much is allowed."""
    return Problem("body-too-large", f"At most {limit:,} bytes are allowed for {what}.")


def parse_json(
    body: bytes, limit: int, around: int = envelope.IN_ENVELOPE, kind: str = "invalid-event"
) -> Any:
    """JSON as Python values. Raises Problem: 400 when it is not JSON, 422 when its values would not stay the same."""
    try:
        return envelope.parse_json(body, limit, around)
    except InvalidEvent as error:
        raise of_body(error, kind) from None


def of_body(error: InvalidEvent, kind: str = "invalid-event") -> Problem:
    """What is wrong with a body as a whole."""
    kind = "malformed-body" if isinstance(error, MalformedJson) else kind
    return Problem(kind, f"The body {error.errors[0].detail}.", pointers(error.errors))


async def read_json(scope: Scope, receive: Receive, limit: int) -> Any:
    """A JSON body of a route other than publishing. Raises Problem."""
    headers = headers_of(scope)
    refuse_encoding(headers)
    refuse_charset(headers)
    media = media_type(headers)
    if not media or not envelope.is_json(media):
        raise Problem("unsupported-media-type", "Send JSON, with `content-type: application/json`.")
    return parse_json(await read(receive, headers, limit), limit, kind="invalid-request")
