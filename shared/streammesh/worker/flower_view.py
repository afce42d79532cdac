"""Flower over one of the mesh's apps: it looks only unless it was told otherwise, and its queue lengths are right.

Of Flower this needs its option `read_only` and the name `flower.views.Broker`, of Tornado the default of an option.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.subscriptions.registry import read_manifests


class App(Protocol):
    """As much of a Celery app as is needed here."""

    mesh_settings: Callable[[], MeshSettings]

    def connection_for_read(self) -> Any: ...


def fit_flower(app: App) -> None:
    """Fit the Flower of this process, where there is one, to an app of the mesh.

    Its own default lets whoever reaches it stop workers. `FLOWER_READ_ONLY=false` or `--read_only=false` still does.
    """
    views: Any = sys.modules.get("flower.views")
    options: Any = sys.modules.get("tornado.options")
    if views is None or options is None:
        return
    options.options._options["read-only"].default = True
    # Flower picks its counter by the broker's URL scheme and knows none for streams.
    views.Broker = lambda *_, **__: QueueLengths(app, app.mesh_settings())


class QueueLengths:
    """Stands in for Flower's `Broker`: asks the transport that the workers themselves use.

    Flower knows the queues of workers that answered it; a service whose workers are all away has the most
    interesting queue, so the services' manifests are asked as well.
    """

    def __init__(self, app: App, settings: MeshSettings) -> None:
        self._app, self._settings = app, settings

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """`[{"name": ..., "messages": ...}]`: tasks not yet delivered and tasks in a worker's hands, together."""
        async with open_async(self._settings, "flower") as client:
            manifests = await read_manifests(client, Keys(self._settings.namespace))
        known = {queue for manifest in manifests for queue in manifest.queue_names}
        return await asyncio.to_thread(self._lengths, sorted(known | set(names)), known)

    def _lengths(self, names: list[str], known: set[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with self._app.connection_for_read() as connection:
            for name in names:
                channel = connection.channel()  # a refused declaration closes its channel
                try:
                    length = channel.queue_declare(queue=name, passive=True).message_count
                except connection.channel_errors:
                    if name in known:  # nothing was ever handed over to it
                        found.append({"name": name, "messages": 0})
                else:
                    found.append({"name": name, "messages": length})
        return found
