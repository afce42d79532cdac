"""An event as it is stored: checked, and written down once. Pure.

What comes in by the door goes from parsed JSON straight to this, without an `Event` in between.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple

from streammesh import plain_json
from streammesh.clock import rfc3339
from streammesh.errors import FieldError, InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import Defaults, Event
from streammesh.events.validation import plainly_good


class Sealed(NamedTuple):
    """What the scripts look at, and the envelope as JSON. (`source`, `id`) is the event's identity."""

    id: str
    source: str
    type: str
    digest: str
    deliver_at_ms: int | None
    json: bytes


def seal(event: Event, *, is_parsed: bool = False) -> Sealed:
    """The stored form of an event. `is_parsed`: its data was read by `envelope.parse_json`, which has checked it.

    Raises InvalidEvent for data that cannot be written down.
    """
    json = event.to_json(is_parsed=is_parsed)
    return Sealed(event.id, event.source, event.type, event.digest(), event.deliver_at_ms, json)


def from_dict(raw: Any, *, at: str = "", defaults: Defaults | None = None) -> Sealed:
    """As `envelope.from_dict`, sealed; `raw` is the caller's no more. Raises InvalidEvent."""
    if defaults is None and type(raw) is dict:
        sealed = _at_a_glance(raw, None)
        if sealed is not None:
            return sealed
    return seal(envelope.from_dict(raw, at=at, defaults=defaults), is_parsed=True)


def from_batch(raw: list[Any], first: int = 0) -> list[Sealed]:
    """Some events of a batch, of which the first is number `first`; `raw` is the caller's no more.

    Raises InvalidEvent with pointers into the list.
    """
    now = rfc3339(datetime.now(UTC))
    events: list[Sealed] = []
    errors: list[FieldError] = []
    for i, item in enumerate(raw, first):
        sealed = _at_a_glance(item, now) if type(item) is dict else None
        if sealed is not None:
            events.append(sealed)
            continue
        try:
            events.append(seal(envelope.from_dict(item, at=f"/{i}"), is_parsed=True))
        except InvalidEvent as error:
            errors += error.errors
    if errors:
        raise InvalidEvent(errors[:100])
    return events


def _at_a_glance(raw: dict[str, Any], now: str | None) -> Sealed | None:
    """Seal what is plainly good and has no extensions; None where a closer look is needed."""
    if not plainly_good(raw):
        return None
    time = raw.pop("time", None) or now or rfc3339(datetime.now(UTC))
    # As `Event.digest` has it: all but the time, and there is no trace.
    digest = blake2b(plain_json.dumps_plain(raw, sort_keys=True, finite=True), digest_size=8).hexdigest()
    raw["time"] = time
    return Sealed(
        raw["id"], raw["source"], raw["type"], digest, None, plain_json.dumps_plain(raw, finite=True)
    )
