"""One queue entry that this process holds."""

from __future__ import annotations

import weakref
from typing import Any


class Held:
    """Where the entry lies, and who can still acknowledge it.

    An entry of a Celery worker is held `weakly`: Celery keeps the message for as long as it means to run
    it (in the pool, a timer, a rate limit), and when it is garbage nobody will. For any other consumer
    it is held until it is acknowledged or its channel closes, as AMQP has it.
    """

    __slots__ = ("_message", "_weakly", "begun", "entry", "lost", "queue", "stream")

    def __init__(self, queue: str, stream: str, entry: str, *, weakly: bool) -> None:
        self.queue, self.stream, self.entry = queue, stream, entry
        self.begun = False  # whether it was delivered, so that somebody may have begun it
        self.lost = False  # whether somebody else took it over
        self._weakly = weakly
        self._message: Any = None

    def show(self, message: Any) -> None:
        """It is being delivered as this message."""
        self.begun = True
        self._message = weakref.ref(message) if self._weakly else message

    @property
    def may_run_on(self) -> bool:
        """Whether it may be running, and so outlives the channel that it came through."""
        return self.begun and self._weakly

    def message(self) -> Any:
        """The message as it was delivered; None when it is garbage, so that nobody will ever run it."""
        return self._message() if self._weakly and self._message else self._message
