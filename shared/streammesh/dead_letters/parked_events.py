"""Events that are not handed over to a service become its dead letters, in one script."""

from __future__ import annotations

import time

import orjson

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lua.events import ParkEventScript


def park_event_call(
    keys: Keys, kept: int, service: str, domain: str, position: str, raw: bytes | None, kind: str, reason: str
) -> lua.Call[bool]:
    """`park_event.lua`: park an event that a service's group was given and that is not handed over to it.

    Answers whether this call did. A replay puts the event into its stream again.
    """
    letter_id = f"event-{service}-{domain}-{position}"
    letter = {
        "form": "event",
        "id": letter_id,
        "service": service,
        "reason": reason,
        "kind": kind,
        "detail": f"entry {position} of the events of {domain}",
        "attempts": 0,
        "at": round(time.time() * 1000),
        "domain": domain,
    }
    return ParkEventScript(
        events=keys.events(domain),
        dead=keys.dead(service),
        index=keys.dead_index(service),
        entries=keys.dead_entries(service),
        services=keys.dead_services(),
        counters=keys.counters(),
        service=service,
        position=position,
        letter_id=letter_id,
        letter=orjson.dumps(letter),
        kept=kept,
        envelope=raw or b"",
    ).call(bool)
