"""Runs a service's Celery worker: registers the manifest, shows life, drains within a deadline."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any, Literal

import structlog
from celery import signals
from celery.apps.worker import Worker

from streammesh import lua
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.heartbeat import BEAT_SECONDS, life_call, process_name
from streammesh.running import keep_what_is_loaded
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import register_call
from streammesh.transport.lease_renewer import give_all_back
from streammesh.worker.app import MeshCelery
from streammesh.worker.async_pool import DEFAULT_CONCURRENCY
from streammesh.worker.broker_leases import EntryLeases
from streammesh.worker.cancellation import Control, Stopper, note_drained
from streammesh.worker.connections import Connections
from streammesh.worker.running_handlers import Running

log = structlog.get_logger(__name__)
PoolKind = Literal["async", "prefork", "threads", "solo"]
POOLS = {
    "async": "streammesh.worker.async_pool:TaskPool",
    "prefork": "streammesh.worker.prefork_pool:TaskPool",
}


def run_worker(
    app: MeshCelery, manifest: Manifest, settings: MeshSettings, pool: PoolKind, running: Running
) -> int:
    """Run until SIGTERM or SIGINT; answers the exit code.

    A first signal drains: no new task is taken, running ones may end within `MESH_DRAIN`; then the rest
    is given back, to be taken up by another worker at once.
    """
    connections = Connections(settings, f"{manifest.service}-worker")
    keys = Keys(settings.namespace)
    register_when_possible(connections, keys, manifest)
    app.is_worker = True
    heart = Heartbeat(connections, keys, manifest)
    app.set_current()
    app.set_default()
    _drain_by(settings.drain.total_seconds(), connections)

    @signals.worker_ready.connect(weak=False)
    def _ready(**_: Any) -> None:
        heart.start()
        control.start()
        log.info("worker.ready", queue=manifest.service, pool=pool, subscriptions=len(manifest.subscriptions))

    @signals.worker_shutting_down.connect(weak=False)
    def _stopping(**_: Any) -> None:
        heart.stop()

    worker = Worker(
        app=app,
        hostname=f"{manifest.service}-{os.getpid()}@{socket.gethostname()}",
        pool_cls=POOLS.get(pool, pool),
        concurrency=settings.concurrency or (DEFAULT_CONCURRENCY if pool == "async" else None),
        queues=[manifest.service],
        loglevel=settings.log_level.upper(),
        optimization="fair",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=False,  # without it Flower sees no worker, and cannot turn events on
    )
    control = Control(connections, keys, manifest.service, Stopper(lambda: worker.pool, pool, running))
    leases = EntryLeases(connections, settings, manifest.service, worker.hostname)
    keep_what_is_loaded()
    try:
        if settings.broker_url:
            leases.start(guarded=pool != "prefork")
        worker.start()
    finally:
        if settings.broker_url:
            leases.stop()
    heart.stop()
    give_all_back()  # not only at the very end, for which a thread of a handler's own may keep us waiting
    log.info("worker.stopped")
    return int(worker.exitcode or 0)


def register_when_possible(connections: Connections, keys: Keys, manifest: Manifest) -> None:
    """Store the manifest, waiting for Redis as long as it takes. Raises InvalidManifest."""
    call = register_call(keys, manifest)
    while True:
        try:
            changed = lua.run_sync(connections.sync(), call)
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.warning("redis.away", reason=str(error))
            time.sleep(1)
        else:
            log.info("manifest.registered", changed=changed, subscriptions=len(manifest.subscriptions))
            return


class Heartbeat:
    """Shows that this worker lives, and registers the manifest anew when Redis has forgotten it."""

    def __init__(self, connections: Connections, keys: Keys, manifest: Manifest) -> None:
        self._connections, self._keys, self._manifest = connections, keys, manifest
        self._role = manifest.service
        self._name = process_name(self._role)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; harmless when it has begun."""
        if not self._thread.is_alive() and not self._over.is_set():
            self._thread.start()

    def stop(self) -> None:
        """End, and take the name off the list at once."""
        if self._over.is_set():
            return
        self._over.set()
        try:
            self._connections.sync().zrem(self._keys.alive(self._role), self._name)
        except Exception as error:
            log.debug("heartbeat.not_removed", reason=str(error))

    def _beat(self) -> None:
        call = life_call(self._keys, self._role, self._name)
        while not self._over.is_set():
            try:
                client = self._connections.sync()
                lua.run_sync(client, call)
                if not client.hexists(self._keys.manifests(), self._role):
                    lua.run_sync(client, register_call(self._keys, self._manifest, forgotten=True))
                    log.error("manifest.was_lost", subscriptions=len(self._manifest.subscriptions))
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("heartbeat.broke")
            self._over.wait(BEAT_SECONDS)


def _drain_by(seconds: float, connections: Connections) -> None:
    """When a warm shutdown has begun, end it cold after `seconds`: what still runs is given back."""

    def cold() -> None:
        log.warning("worker.drain_deadline", seconds=seconds)
        note_drained(connections)
        os.kill(os.getpid(), signal.SIGQUIT)

    @signals.worker_shutting_down.connect(weak=False)
    def _begin(how: str = "", **_: Any) -> None:
        if how == "Warm":
            timer = threading.Timer(seconds, cold)
            timer.daemon = True
            timer.start()
            log.info("worker.draining", seconds=seconds)
