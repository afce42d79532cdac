"""Runs a service's Celery worker: registers the manifest, shows life, drains within a deadline."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import structlog
from celery import signals
from celery.apps.worker import Worker

from streammesh import lua
from streammesh.health import Health, Pulse, serve_health
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.heartbeat import BEAT_SECONDS, FRESH_MS, life_call, process_name
from streammesh.running import keep_what_is_loaded
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import register_call
from streammesh.transport.lease_renewer import dead_renewer, give_all_back
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
    app: MeshCelery,
    manifest: Manifest,
    settings: MeshSettings,
    pool: PoolKind,
    running: Running,
    health: Health,
) -> int:
    """Run until SIGTERM or SIGINT; answers the exit code.

    A first signal drains: no new task is taken, running ones may end within `MESH_DRAIN`; then the rest
    is given back, to be taken up by another worker at once.
    """
    redis_answers, stopping = Pulse(), threading.Event()
    health.works_while("redis", lambda: redis_answers.waits(FRESH_MS / 1000))
    health.works_while("consumer", lambda: "it is starting")
    serve_health(health, settings.health_host, settings.health_port)
    connections = Connections(settings, f"{manifest.service}-worker")
    keys = Keys(settings.namespace)
    register_when_possible(connections, keys, manifest, redis_answers)
    app.is_worker = True
    heart = Heartbeat(connections, keys, manifest, redis_answers)
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
        stopping.set()
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
    watch_over(health, worker, app.turning, settings, stopping)
    health.lives_while("heartbeat", heart.dead)
    keep_what_is_loaded()
    try:
        if settings.broker_url:
            leases.start(guarded=pool != "prefork")
        worker.start()
    finally:
        health.lives_while("consumer", lambda: "it has ended, and the process has not")
        if settings.broker_url:
            leases.stop()
    heart.stop()
    give_all_back()  # not only at the very end, for which a thread of a handler's own may keep us waiting
    log.info("worker.stopped")
    return int(worker.exitcode or 0)


def watch_over(
    health: Health, worker: Worker, turning: Pulse, settings: MeshSettings, stopping: threading.Event
) -> None:
    """Have `/livez` and `/readyz` look at this worker's consumer, its pool and who renews its leases."""
    stuck = settings.stuck_after.total_seconds()
    solo = worker.pool_cls.__module__.endswith(".solo")  # there the consumer runs the tasks

    def consumer() -> str | None:
        return None if solo or stopping.is_set() else turning.silent_for(stuck)

    def pool() -> str | None:
        dead_for: Callable[[float], str | None] | None = getattr(worker.pool, "dead_for", None)
        return dead_for(stuck) if dead_for else None

    def consuming() -> str | None:
        return "it is stopping" if stopping.is_set() else turning.waits(stuck)

    health.lives_while("consumer", consumer)
    health.lives_while("pool", pool)
    health.lives_while("leases", dead_renewer)
    health.works_while("consumer", consuming)


def register_when_possible(
    connections: Connections, keys: Keys, manifest: Manifest, answers: Pulse | None = None
) -> None:
    """Store the manifest, waiting for Redis as long as it takes. Raises InvalidManifest."""
    call = register_call(keys, manifest)
    while True:
        try:
            changed = lua.run_sync(connections.sync(), call)
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.warning("redis.away", reason=str(error))
            if answers:
                answers.rest(f"does not answer: {type(error).__name__}")
            time.sleep(1)
        else:
            if answers:
                answers.beat()
            log.info("manifest.registered", changed=changed, subscriptions=len(manifest.subscriptions))
            return


class Heartbeat:
    """Shows that this worker lives, and registers the manifest anew when Redis has forgotten it."""

    def __init__(self, connections: Connections, keys: Keys, manifest: Manifest, answers: Pulse) -> None:
        self._connections, self._keys, self._manifest = connections, keys, manifest
        self._answers = answers
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

    def dead(self) -> str | None:
        """Return what to say when the thread has ended by itself."""
        began = self._thread.ident is not None
        return (
            "its thread has ended"
            if began and not self._thread.is_alive() and not self._over.is_set()
            else None
        )

    def _beat(self) -> None:
        call = life_call(self._keys, self._role, self._name)
        while not self._over.is_set():
            try:
                client = self._connections.sync()
                lua.run_sync(client, call)
                self._answers.beat()
                if not client.hexists(self._keys.manifests(), self._role):
                    lua.run_sync(client, register_call(self._keys, self._manifest, forgotten=True))
                    log.error("manifest.was_lost", subscriptions=len(self._manifest.subscriptions))
            except Exception as error:
                self._answers.rest(f"does not answer: {type(error).__name__}")
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
