"""Queue lengths for Flower. Its own counter reads Redis lists; the mesh's queues are streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol


class App(Protocol):
    """As much of a Celery app as is needed here."""

    def connection_for_read(self) -> Any: ...


class QueueLengths:
    """Stands in for Flower's `Broker`: asks the transport that the workers themselves use."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """`[{"name": ..., "messages": ...}]`: tasks not yet delivered and tasks in a worker's hands, together."""
        return await asyncio.to_thread(self._lengths, list(names))

    def _lengths(self, names: list[str]) -> list[dict[str, Any]]:
        with self._app.connection_for_read() as connection:
            channel = connection.default_channel
            return [
                {"name": name, "messages": channel.queue_declare(queue=name, passive=True).message_count}
                for name in names
            ]
