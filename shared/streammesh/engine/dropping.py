"""Which messages Celery keeps but will not run any more, once a worker stops reading.

Most of what a stopping worker drops is garbage at once, and garbage needs no question. Two things are not:
a task in a cancelled timer stays in the timer's heap until its time, and a thread pool that was shut down
may keep the last of its cancelled tasks until the running ones have ended.
"""

from __future__ import annotations

import sys
from typing import Any


def never_to_run(transport: Any, channel: Any, messages: list[Any]) -> set[int]:
    """The ids (as of `id`) of those of `messages` that this process will not begin."""
    loop = transport.loop
    never: set[int] = set()
    if loop is None:
        return never
    for _, _, entry in loop.timer.queue:
        request = entry.args[0] if entry.cancelled and entry.args else None
        message = getattr(request, "message", None)
        if message is not None:
            never.add(id(message))
    if channel.reader.pool_is_shut_down:
        active = {
            id(request.message) for request in tuple(sys.modules["celery.worker.state"].active_requests)
        }
        never |= {id(message) for message in messages} - active
    return never
