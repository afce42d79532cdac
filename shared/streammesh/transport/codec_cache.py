"""Heads of queue entries that differ from one that was looked at before in nothing but the task's id.

So are those of all deliveries of one subscription. A head is half of what there is to read and most of what there is
to check in an entry; here it is read once, and the next ones are made from it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

MOST = 512  # heads kept; of more than that, each is new anyway
_ID = re.compile(rb'"id":"([0-9a-f-]{36})"')
_GAP = b"\0"  # in no JSON text
_PLAIN = (str, int, float, bool, type(None))

Head = dict[str, Any]


class _KnownHead(NamedTuple):
    """A head without its id, and where the id stands; `fresh` has the lists and objects among its headers."""

    head: Head
    in_headers: tuple[str, ...]
    in_properties: tuple[str, ...]
    fresh: tuple[tuple[str, type], ...]


class KnownHeads:
    """Not for several threads at once to `remember`; any may ask."""

    def __init__(self) -> None:
        self._known: dict[bytes, _KnownHead] = {}

    def like(self, raw: bytes) -> Head | None:
        """The head in `raw`, where one was remembered that differs in the id alone."""
        found = _ID.search(raw)
        known = self._known.get(raw.replace(found[1], _GAP)) if found and _GAP not in raw else None
        if known is None:
            return None
        assert found is not None
        task_id = found[1].decode()
        headers, properties = dict(known.head["headers"]), dict(known.head["properties"])
        for name in known.in_headers:
            headers[name] = task_id
        for name in known.in_properties:
            properties[name] = task_id
        for name, kind in known.fresh:
            headers[name] = kind(headers[name])
        return {**known.head, "headers": headers, "properties": properties}

    def remember(self, raw: bytes, head: Head) -> None:
        """Keep a head that was looked at and found good; not one of which more than the id differs each time."""
        found = _ID.search(raw)
        headers, properties = head["headers"], head["properties"]
        if not found or _GAP in raw or headers.get("eta") or headers.get("expires"):
            return
        task_id = found[1].decode()
        in_headers = tuple(name for name, value in headers.items() if value == task_id)
        in_properties = tuple(name for name, value in properties.items() if value == task_id)
        fresh = tuple(
            (name, type(value)) for name, value in headers.items() if isinstance(value, list | dict)
        )
        flat = all(
            isinstance(value, _PLAIN)
            for name, _ in fresh
            for value in (headers[name].values() if isinstance(headers[name], dict) else headers[name])
        )
        # Only where every place in which the id stands is one that is known.
        if not flat or raw.count(found[1]) != len(in_headers) + len(in_properties):
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[raw.replace(found[1], _GAP)] = _KnownHead(head, in_headers, in_properties, fresh)
