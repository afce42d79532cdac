"""One service whose worker is a URL, as a process: `python -m services.webhook_worker.url_service NAME`.

It is a worker as any other: queue, leases, ledger, retries, dead letters are the kit's. The webhook worker starts it,
and starts it anew when its document changes; it ends when its parent does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from typing import Any

from streammesh import Context, Event, Service, logs
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings, load_settings
from streammesh.webhooks.url_workers import BEYOND_ANSWER, UrlWorker, read_url_worker

from services.webhook_worker.sender import WebhookSender
from services.webhook_worker.settings import WebhookSettings
from services.webhook_worker.url_handler import UrlHandler


class UrlService:
    """Makes the kit's service of a document; its sender is opened on the loop that the handlers run on."""

    def __init__(self, worker: UrlWorker, mesh: MeshSettings, own: WebhookSettings) -> None:
        self._worker, self._own, self._most = worker, own, mesh.max_result_bytes
        self._handler: UrlHandler | None = None
        settings = mesh.model_copy(
            update={"concurrency": worker.concurrency, "processes": 1, "health_port": 0}
        )
        self.service = Service(worker.service, pool="async", settings=settings)
        for one in worker.subscriptions:
            self.service.on(
                one.type,
                where=one.where,
                retries=one.retries,
                timeout=worker.timeout + BEYOND_ANSWER,
                expires=one.expires,
                priority=one.priority,
                name=one.name,
            )(self.handle)

    async def handle(self, event: Event, ctx: Context) -> Any:
        """Send it, and settle by the answer."""
        if self._handler is None:
            sender = WebhookSender(self._own.allowed, self._worker.timeout, most_answered=self._most)
            self._handler = UrlHandler(self._worker, sender, self._own.seal)
        return await self._handler(event, ctx)


async def read(mesh: MeshSettings, service: str) -> UrlWorker | None:
    """The document of this service, None where there is none any more."""
    client = open_async(mesh, "url-worker")
    try:
        return (await read_url_worker(client, Keys(mesh.namespace), service))[0]
    finally:
        await client.aclose()


def end_with_parent() -> None:
    """Ask this process to stop when the other end of its standard input is gone."""

    def watch() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock would be held when Python ends
            continue
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    """The process."""
    mesh, own = load_settings(MeshSettings), load_settings(WebhookSettings)
    worker = asyncio.run(read(mesh, sys.argv[1]))
    if worker is None:
        raise SystemExit(0)
    logs.configure(mesh, worker.service)
    end_with_parent()
    UrlService(worker, mesh, own).service.run(queues=[])


if __name__ == "__main__":
    main()
