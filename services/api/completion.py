"""Waits until an event has come to its end, as those do who follow it."""

from __future__ import annotations

import asyncio

from streammesh.api_keys import ApiKey
from streammesh.notifications import LAST_OF_EVENT, Filter
from streammesh.tasks.records import EventRow

from services.api.lookup import find_row
from services.api.push.told import Told
from services.api.state import Wiring


async def until_completed(wiring: Wiring, key: ApiKey, row: EventRow, seconds: float) -> EventRow:
    """Return the event's row as soon as all of it has ended, or as it is after `seconds`, or as the process stops.

    It takes a stream's place while it waits. Raises Problem (429, 503) where there are too many, MeshUnavailable.
    """
    if row.completed or seconds <= 0:
        return row
    hub = wiring.hub
    follower = hub.open(key, Filter(event=row.id, source=row.source))
    try:
        await hub.attach_now(follower)
        row = await find_row(wiring, key, row.id, row.source)  # it may have ended before we listened
        if row.completed:
            return row
        until = asyncio.get_running_loop().time() + seconds
        while not follower.ended and (left := until - asyncio.get_running_loop().time()) > 0:
            told = await follower.take(left)
            if any(isinstance(one, Told) and one.note.type in LAST_OF_EVENT for one in told):
                break
    finally:
        hub.close(follower)
    return await find_row(wiring, key, row.id, row.source)
