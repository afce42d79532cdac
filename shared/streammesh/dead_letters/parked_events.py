"""Events that are not handed over to a service become its dead letters, in one script."""

from __future__ import annotations

import time

import orjson

from streammesh import lua
from streammesh.keys import Keys


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
    return lua.Call(
        lua.script("park_event"),
        [
            *(keys.events(domain), keys.dead(service), keys.dead_index(service), keys.dead_entries(service)),
            *(keys.dead_services(), keys.counters()),
        ],
        [service, position, letter_id, orjson.dumps(letter), kept, raw or b""],
        bool,
    )
