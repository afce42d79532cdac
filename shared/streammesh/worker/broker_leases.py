"""Leases on the queue entries of what this worker runs, where another broker brings its tasks.

There no channel of ours holds the entries (`lease_keeper.py` does it for our own transport). A claim makes
an entry this worker's in the queue's pending list; from then on this thread renews it, as long as its task
runs. What it does not renew any more is sent again by the dispatcher's forwarder.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import structlog

from streammesh import lua
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable, tls_options
from streammesh.settings import MeshSettings
from streammesh.transport.codec import parse_tag
from streammesh.transport.lease_renewer import RENEWALS_PER_LEASE
from streammesh.transport.lease_watchdog import LeaseGuard, start_guard
from streammesh.transport.scripts import unread_calls
from streammesh.worker.cancellation import active_requests
from streammesh.worker.connections import Connections
from streammesh.worker.request import MeshRequest

log = structlog.get_logger(__name__)


class EntryLeases:
    """Renews them from a thread of its own. `worker` is the name under which its tasks are claimed."""

    def __init__(
        self, connections: Connections, settings: MeshSettings, queues: Sequence[str], worker: str
    ) -> None:
        self._connections, self._every = connections, settings.lease.total_seconds() / RENEWALS_PER_LEASE
        self._keys = Keys(settings.namespace)
        self._streams = [self._keys.queue(queue) for queue in queues]
        self._calls = unread_calls(settings, worker)
        timeout = settings.redis_timeout.total_seconds()
        tls = tls_options(settings) if "rediss" in settings.redis_url.partition("://")[0] else {}
        self._url, self._options = settings.redis_url, {"socket_timeout": timeout, **tls}
        self._guard: LeaseGuard | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="entry-leases", daemon=True)

    def start(self, *, guarded: bool) -> None:
        """Begin; harmless when it has begun. `guarded`: handlers run in this process."""
        if not self._thread.is_alive() and not self._over.is_set():
            if guarded:
                self._guard = start_guard(self._url, self._options, self._calls, self._streams)
                self._give_sign()
            self._thread.start()

    def stop(self) -> None:
        """The worker has ended: what it could not finish is given back, to be sent again at once."""
        self._over.set()
        if self._guard is not None:
            self._guard.close()
        try:
            client = self._connections.sync()
            given = sum(lua.run_sync(client, self._calls.leave(stream, [])) for stream in self._streams)
        except Exception as error:  # then it is sent again when its lease has run out
            log.warning("redis.away", asked="queue_leave", reason=str(error))
        else:
            if given:
                log.info("queue.given_back", consumer=self._calls.consumer, count=given)

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self._give_sign()
            held = self._running()
            if not held:
                continue
            try:
                # What was not claimed yet is not this worker's, and is left out by the script.
                lua.run_sync(self._connections.sync(), self._calls.renew(held))
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("lease.broke")
                else:
                    log.warning("lease.unreachable", consumer=self._calls.consumer, reason=str(error))

    def _give_sign(self) -> None:
        if self._guard is not None:
            self._guard.give()

    def _running(self) -> dict[str, list[str]]:
        entries: dict[str, list[str]] = defaultdict(list)
        for request in active_requests():
            tag: Any = request.request_dict["mesh_tag"] if isinstance(request, MeshRequest) else None
            if tag:
                place = parse_tag(tag)
                entries[self._keys.queue(place.queue, place.priority)].append(place.entry)
        return entries
