"""Flower over one of the mesh's apps: it looks only unless it was told otherwise, and its queue lengths are right.

With several shards it shows all: it hears each shard's workers, and queue lengths are sums.

Of Flower this needs its option `read_only`, the names `flower.views.Broker` and `flower.app.Events`, and that `Events.run`
takes no more of itself than `capp` and `on_event`; of Tornado the default of an option.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from threading import Thread
from types import SimpleNamespace
from typing import Any, Protocol

import structlog

from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.subscriptions.registry import read_manifests

log = structlog.get_logger(__name__)


class App(Protocol):
    """As much of a Celery app as is needed here."""

    mesh_settings: Callable[[], MeshSettings]

    @property
    def other_shards(self) -> Sequence[App]: ...

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
    views.Broker = lambda *_, **__: QueueLengths([app, *app.other_shards])
    if app.other_shards:
        hear_all(sys.modules["flower.app"], app.other_shards)


def hear_all(module: Any, others: Sequence[App]) -> None:
    """Have Flower hear what workers say in these shards too; it asks them by remote control, which reaches all."""
    usual = module.Events
    if getattr(usual, "hears_all", False):
        return

    class Events(usual):  # type: ignore[misc, valid-type]
        hears_all = True

        def start(self) -> None:
            super().start()
            for app in others:
                ears = SimpleNamespace(capp=app, on_event=self.on_event)
                Thread(target=usual.run, args=(ears,), name="events of a shard", daemon=True).start()

    module.Events = Events


class QueueLengths:
    """Stands in for Flower's `Broker`: asks the transport that the workers themselves use.

    Flower knows the queues of workers that answered it; a service whose workers are all away has the most
    interesting queue, so the services' manifests are asked as well.
    """

    def __init__(self, apps: Sequence[App]) -> None:
        self._apps = apps

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """`[{"name": ..., "messages": ...}]`: tasks not yet delivered and tasks in a worker's hands, together.

        The sums over all shards that answer; raises where none does.
        """
        wanted = list(names)
        answers = await asyncio.gather(
            *(self._of_shard(app, wanted) for app in self._apps), return_exceptions=True
        )
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if len(failed) == len(answers):
            raise failed[0]
        for error in failed:
            log.error("control.shard_away", reason=repr(error)[:200])
        sums: Counter[str] = Counter()
        for answer in answers:
            if not isinstance(answer, BaseException):
                sums.update(answer)
        return [{"name": name, "messages": sums[name]} for name in sorted(sums)]

    async def _of_shard(self, app: App, names: list[str]) -> dict[str, int]:
        settings = app.mesh_settings()
        async with open_async(settings, "flower") as client:
            manifests = await read_manifests(client, Keys(settings.namespace))
        known = {queue for manifest in manifests for queue in manifest.queue_names}
        return await asyncio.to_thread(self._lengths, app, sorted(known | set(names)), known)

    @staticmethod
    def _lengths(app: App, names: list[str], known: set[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        with app.connection_for_read() as connection:
            for name in names:
                channel = connection.channel()  # a refused declaration closes its channel
                try:
                    found[name] = channel.queue_declare(queue=name, passive=True).message_count
                except connection.channel_errors:
                    if name in known:  # nothing was ever handed over to it
                        found[name] = 0
        return found
