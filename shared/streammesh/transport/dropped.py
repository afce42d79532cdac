"""Which messages Celery keeps but will not run any more, once a worker stops reading.

Most of what a stopping worker drops is garbage at once, and garbage needs no question. A task in a
cancelled timer is not: it stays in the timer's heap until its time.

One case is left alone: a thread pool that is shut down may keep the last of its cancelled tasks until
the running ones have ended. It looks just like a task that has ended and is about to be acknowledged.
"""

from __future__ import annotations

from typing import Any


def never_to_run(transport: Any) -> set[int]:
    """The ids (as of `id`) of messages whose tasks this process will not begin."""
    if transport.loop is None:
        return set()
    requests = (entry.args[0] for _, _, entry in transport.loop.timer.queue if entry.cancelled and entry.args)
    return {id(request.message) for request in requests if hasattr(request, "message")}
