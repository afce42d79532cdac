"""`cancel_on`: which events cancel which open tasks of a subscription, by the values at two paths. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streammesh import names, plain_json
from streammesh.errors import InvalidManifest
from streammesh.events.envelope import Event
from streammesh.subscriptions.declaration import never_matching
from streammesh.subscriptions.filters import problems, value_at

MAX_CANCEL_TYPES = 8  # of one subscription: each open task stands in the index once for each
SHAPE = (
    "a path such as 'data.order_id', or two: (path in the event that cancels, path in the subscription's own)"
)


def declared_cancels(cancel_on: object, own_type: str) -> dict[str, tuple[str, str]]:
    """What `cancel_on=` says: type -> (path in the event that cancels, path in the own one).

    Raises InvalidManifest for what cannot be.
    """
    if cancel_on is None:
        return {}
    if not isinstance(cancel_on, Mapping):
        raise InvalidManifest(
            f"cancel_on={cancel_on!r:.80}: should be a dict of types and paths, {{'order.cancelled': 'data.order_id'}}"
        )
    found: dict[str, tuple[str, str]] = {}
    for event_type, said in cancel_on.items():
        pair = (
            (said, said) if isinstance(said, str) else tuple(said) if isinstance(said, list | tuple) else ()
        )
        if len(pair) != 2 or not all(isinstance(path, str) and path for path in pair):
            raise InvalidManifest(f"cancel_on[{event_type!r:.80}]: should be {SHAPE}")
        for path, of in zip(pair, (str(event_type), own_type), strict=True):
            for problem in never_matching({path: None}, of):
                raise InvalidManifest(f"cancel_on[{event_type!r:.80}]{problem.removeprefix('where')}")
        found[event_type] = pair
    return found


def wrong_cancels(cancel_on: object, cancels: object, service: str) -> Iterator[str]:
    """What is wrong with these parts of a subscription as it is stored, in words."""
    if not isinstance(cancel_on, Mapping) or len(cancel_on) > MAX_CANCEL_TYPES:
        yield f"cancel_on should be at most {MAX_CANCEL_TYPES} types with their paths"
        return
    for event_type, paths in cancel_on.items():
        if not isinstance(event_type, str) or not names.is_type(event_type) or names.is_glob(event_type):
            yield f"cancel_on[{event_type!r:.80}]: should be an event type, and no glob"
        elif not _is_texts(paths):
            yield f"cancel_on[{event_type!r}]: should be {SHAPE}"
        else:
            yield from problems(dict.fromkeys(paths))
    if cancels:
        yield from _wrong_canceller(cancels, service)


def _wrong_canceller(cancels: Any, service: str) -> Iterator[str]:
    if not _is_texts(cancels) or not cancels[0].startswith(f"{service}."):
        yield f"cancels should be one of the service's own tasks and a path, not {cancels!r:.80}"
    else:
        yield from problems({cancels[1]: None})


def value_digest(event_type: str, event: Event, path: str) -> str | None:
    """What stands in keys for events of `event_type` that carry this one's value at a path.

    None where none stands there that can be compared: a text, a number or a boolean.
    """
    value = value_at(event, path)
    if not isinstance(value, str | int | float | bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1 and 1.0 are one value
    try:
        return hashlib.sha256(plain_json.dumps([event_type, value])).hexdigest()[:32]
    except TypeError:  # NaN, half a surrogate pair: no other event carries it
        return None


def _is_texts(pair: Any) -> bool:
    return (
        isinstance(pair, Sequence)
        and not isinstance(pair, str)
        and len(pair) == 2
        and all(isinstance(one, str) and one for one in pair)
    )
