"""Takes a batch of events apart without holding the event loop, however large it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from streammesh.errors import FieldError, InvalidEvent, MalformedJson
from streammesh.events import encoded, envelope
from streammesh.events.encoded import Sealed
from streammesh.redisio.turns import Turns

from services.api import request_body
from services.api.problems import Problem

IN_ONE_GO = 262_144  # bytes that are parsed in one go
AT_ONCE = 20  # small events between two looks at the clock
_ELEMENTS: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


async def read(body: bytes, most: int) -> list[Sealed]:
    """The events of the JSON batch format: at most 1,000, all or none. `most`: bytes of one event.

    Raises Problem: 400 for what is no JSON, 413 for an event that is too large, 422 with pointers into the list.
    """
    try:
        if len(body) <= IN_ONE_GO:
            return await _sealed(_whole(body), most, AT_ONCE, lambda element: element)
        elements = _elements(body)
        await asyncio.sleep(0)
        return await _sealed(elements, most, 1, _parsed)
    except InvalidEvent as error:
        if error.errors[0].pointer == "":
            raise request_body.of_body(error) from None
        raise


def _whole(body: bytes) -> Any:
    return envelope.parse_json(body, len(body), envelope.IN_BATCH)


def _elements(body: bytes) -> list[msgspec.Raw]:
    """The elements of a JSON array as bytes: finding their ends takes 2 ms for a megabyte, and reading them 50."""
    try:
        return _ELEMENTS.decode(body)
    except msgspec.ValidationError:
        raise _no_array() from None
    except (msgspec.DecodeError, RecursionError) as error:
        strange = " (NaN and infinities are none)" if b"NaN" in body or b"Infinity" in body else ""
        raise MalformedJson([FieldError("", f"is not valid JSON{strange}: {error}")]) from None


def _parsed(element: msgspec.Raw) -> Any:
    raw = bytes(element)
    return envelope.parse_json(raw, len(raw))


def _no_array() -> InvalidEvent:
    return InvalidEvent([FieldError("", "should be a JSON array of events")])


async def _sealed(elements: Any, most: int, at_once: int, parse: Callable[[Any], Any]) -> list[Sealed]:
    if not isinstance(elements, list):
        raise _no_array()
    if len(elements) > envelope.MAX_BATCH:
        raise InvalidEvent(
            [FieldError("", f"has {len(elements):,} events where at most {envelope.MAX_BATCH:,} are allowed")]
        )
    events: list[Sealed] = []
    errors: list[FieldError] = []
    turns = Turns()
    for first in range(0, len(elements), at_once):
        try:
            some = [parse(element) for element in elements[first : first + at_once]]
            await turns.give()
            events += encoded.from_batch(some, first)
        except InvalidEvent as error:
            errors += [FieldError(one.pointer or f"/{first}", one.detail) for one in error.errors]
        await turns.give()
    if errors:
        raise InvalidEvent(errors[:100])
    for i, event in enumerate(events):
        if len(event.json) > most:
            raise Problem(
                "body-too-large",
                f"At most {most:,} bytes are allowed for an event.",
                [{"pointer": f"/{i}", "detail": "is too large"}],
            )
    return events
