"""A service's worker as a member of the mesh, however it was started: by `Service.run` or by `celery worker`.

Beside what Celery's worker does it stores the manifest, shows life, hears which tasks are to be cancelled, and ends
within a deadline once it was told to.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import threading
from collections.abc import Sequence
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.apps.worker import Worker
from celery.exceptions import WorkerShutdown
from celery.worker import state

from streammesh import logs, lua
from streammesh.group_place import group_place
from streammesh.health import Pulse
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.heartbeat import BEAT_SECONDS, OVERDUE_SECONDS, life_call, process_name
from streammesh.redisio.inspector import start_inspecting
from streammesh.redisio.internals import start_with
from streammesh.redisio.mesh_format import NEWER, OLDER, end_overtaken, meet_sync, migrate_sync
from streammesh.redisio.retry import until_back
from streammesh.refused_services import note_refusal
from streammesh.roles import keep_what_is_loaded
from streammesh.rollout.membership import NameTaken
from streammesh.subscriptions.manifest import Manifest
from streammesh.telemetry import spans
from streammesh.transport.lease_renewer import dead_renewer, give_all_back
from streammesh.worker import prefork_pool
from streammesh.worker.broker_leases import EntryLeases
from streammesh.worker.cancellation import Control, Stopper, note_drained
from streammesh.worker.config import CONCURRENCY, POOLS
from streammesh.worker.connections import Connections
from streammesh.worker.internals import check
from streammesh.worker.memory_watch import MemoryWatch
from streammesh.worker.process_end import end_process
from streammesh.worker.registration import Registration
from streammesh.worker.shard_rules import fits_shards, limits_beyond_shard

COLD_SECONDS = (
    5.0  # that a worker has to end after its drain deadline, before it is ended from outside Python
)
EXIT_REFUSED = 2
log = structlog.get_logger(__name__)


class MeshWorker(Worker):
    """Celery's worker; of a service's app it makes a member of the mesh."""

    def __init__(self, app: Any = None, hostname: str | None = None, **options: Any) -> None:
        start_with(check)
        app = app or self.app
        if app.plumbing is not None:
            service, settings = app.plumbing.service, app.plumbing.settings
            logs.configure(settings, service)
            spans.begin(settings.traces_url, settings.traces_share, service)
            start_inspecting(settings)
            app.is_worker = True
            app.plumbing.health.works_while("consumer", lambda: "it is starting")
            app.plumbing.serve_health()
            meet_sync(settings, app.plumbing.health)
            app.steps["worker"].add(Member)
            hostname = worker_name(service, hostname)
            options["queues"] = options.get("queues") or app.manifest().queue_names
            options.update(without_gossip=True, without_mingle=True)  # they would ask every team's workers
            _use_our_threads(app, options)
        super().__init__(app=app, hostname=hostname, **options)


def _use_our_threads(app: Any, options: dict[str, Any]) -> None:
    """`celery worker -P threads` means the mesh's own, in which deliveries travel in batches."""
    pool = options.get("pool_cls") or options.get("pool")
    if pool == "threads" or getattr(pool, "__module__", "") == "celery.concurrency.thread":
        options["pool_cls"] = POOLS["threads"]
        if not options.get("concurrency") and not app.conf.worker_concurrency:
            options["concurrency"] = CONCURRENCY["threads"]


def worker_name(service: str, given: str | None) -> str:
    """The node name of a service's worker: it begins with the service, by which remote control finds it."""
    name, _, host = (given or "").partition("@")
    if not name or name == "celery":
        place = group_place()
        name = f"{service}-{f'{place.number}-' if place else ''}{os.getpid()}"
    elif not name.startswith(f"{service}-"):
        name = f"{service}-{name}"
    return f"{name}@{host or socket.gethostname()}"


class Member(bootsteps.StartStopStep):
    """What a worker of a service does beside Celery's."""

    requires = ("celery.worker.components:Pool",)
    label = "mesh member"

    def __init__(self, worker: Any, **_: Any) -> None:
        plumbing = worker.app.plumbing
        # Before the pool forks its children, which send it.
        signals.worker_process_shutdown.connect(lambda **_: plumbing.resources.close_sync(), weak=False)
        self._manifest: Manifest = worker.app.manifest()
        self._settings, self._service = plumbing.settings, plumbing.service
        self._connections = Connections(self._settings, f"{self._service}-worker")
        keys = Keys(self._settings.namespace)
        self._keys = keys
        self._redis_answers, self._is_stopping = Pulse(), threading.Event()
        self._registration = Registration(self._connections, keys, self._settings, self._manifest)
        self._heart = Heartbeat(
            self._connections, keys, self._registration, self._service, self._redis_answers
        )
        self._memory = MemoryWatch(self._settings.max_memory)
        self._control = Control(
            self._connections, keys, self._service, Stopper(lambda: worker.pool, plumbing.running)
        )
        self._leases = EntryLeases(
            self._connections, self._settings, self._manifest.queue_names, worker.hostname
        )

    def start(self, worker: Any) -> None:
        """Join: the manifest is stored before the first task is taken, however long Redis is away."""
        end_within(self._settings.drain.total_seconds(), self._connections)
        self._be_watched(worker)
        if not fits_shards(self._manifest, self._settings.whole.shards):
            reason = "; ".join(limits_beyond_shard(self._manifest))
            note_refusal(self._connections.sync(), self._keys, self._service, reason)
            raise WorkerShutdown(EXIT_REFUSED)
        register_when_possible(self._registration, self._manifest, self._redis_answers)
        signals.worker_ready.connect(self._ready, weak=False)
        signals.worker_shutting_down.connect(self._stopping, weak=False)
        resources = worker.app.plumbing.resources  # of the async pool they are closed on its own loop
        if not hasattr(worker.pool, "flights") and not isinstance(worker.pool, prefork_pool.TaskPool):
            signals.worker_shutdown.connect(lambda **_: resources.close_sync(), weak=False)
        if self._settings.broker_url:
            self._leases.start(guarded=not isinstance(worker.pool, prefork_pool.TaskPool))
        keep_what_is_loaded()

    def _be_watched(self, worker: Any) -> None:
        """Have `/livez` and `/readyz` look at the consumer, the pool and the threads beside them."""
        health, turning, stopping = worker.app.plumbing.health, worker.app.turning, self._is_stopping
        stuck = self._settings.stuck_after.total_seconds()
        solo = type(worker.pool).__module__.endswith(".solo")  # there the consumer runs the tasks
        dead_for = getattr(worker.pool, "dead_for", None)
        if dead_for:
            health.lives_while("pool", lambda: dead_for(stuck))
        health.lives_while(
            "consumer", lambda: None if solo or stopping.is_set() else turning.silent_for(stuck)
        )
        health.lives_while("heartbeat", self._heart.dead)
        health.lives_while("leases", dead_renewer)
        health.works_while(
            "consumer", lambda: "it is stopping" if stopping.is_set() else turning.waits(stuck)
        )
        health.works_while("redis", lambda: self._redis_answers.waits(OVERDUE_SECONDS))

    def _ready(self, sender: Any = None, **_: Any) -> None:
        self._heart.start()
        self._control.start()
        if not isinstance(sender.pool, prefork_pool.TaskPool):
            self._memory.start()
        pool = type(sender.pool).__module__.rpartition(".")[2].removesuffix("_pool")
        log.info(
            "worker.ready", queue=self._service, pool=pool, subscriptions=len(self._manifest.subscriptions)
        )

    def _stopping(self, **_: Any) -> None:
        self._is_stopping.set()
        self._heart.stop()
        self._memory.stop()

    def stop(self, worker: Any) -> None:
        """Leave."""
        self._end()

    def terminate(self, worker: Any) -> None:
        """Leave, without having drained."""
        self._end()

    def _end(self) -> None:
        self._heart.stop()
        if self._settings.broker_url:
            self._leases.stop()


def register_when_possible(registration: Registration, manifest: Manifest, answers: Pulse) -> None:
    """Store the manifest, waiting for Redis as long as it takes, or until the worker is told to end.

    Raises WorkerShutdown where another team has the name, and InvalidManifest.
    """

    def away(error: Exception) -> None:
        answers.rest(f"does not answer: {type(error).__name__}")
        if state.should_stop is not None or state.should_terminate is not None:
            raise WorkerShutdown(0) from None

    try:
        changed = until_back("the manifest", lambda: registration.join(first=True), away)
    except NameTaken as error:
        log.error("name.taken", service=manifest.service, reason=str(error))
        raise WorkerShutdown(EXIT_REFUSED) from None
    answers.beat()
    log.info("manifest.registered", changed=changed, subscriptions=len(manifest.subscriptions))


class Heartbeat:
    """Shows that this worker lives, and registers anew when Redis has forgotten it, or another edition has left."""

    def __init__(
        self, connections: Connections, keys: Keys, registration: Registration, service: str, answers: Pulse
    ) -> None:
        self._connections, self._keys, self._registration = connections, keys, registration
        self._answers = answers
        self._role = service
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
        began, over = self._thread.ident is not None, self._over.is_set()
        return "its thread has ended" if began and not over and not self._thread.is_alive() else None

    def _beat(self) -> None:
        call = life_call(self._keys, self._role, self._name, self._registration.edition.digest)
        while not self._over.is_set():
            try:
                client = self._connections.sync()
                standing = lua.run_sync(client, call)
                self._answers.beat()
                if standing == NEWER:
                    end_overtaken()
                elif standing == OLDER:
                    migrate_sync(client, self._keys)
                self._registration.renew()
            except NameTaken as error:
                log.error("name.taken", service=self._role, reason=str(error))
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except Exception as error:
                self._answers.rest(f"does not answer: {type(error).__name__}")
                if not is_unavailable(error):
                    log.exception("heartbeat.broke")
            self._over.wait(BEAT_SECONDS)


def end_within(seconds: float, connections: Connections) -> None:
    """Once a shutdown has begun, end it cold after `seconds`: what still runs is given back. Then end it anyhow.

    The last resort is a watchdog in C, which needs neither the main thread nor the interpreter's lock.
    """

    def cold() -> None:
        log.warning("worker.drain_deadline", seconds=seconds)
        note_drained(connections)
        os.kill(os.getpid(), signal.SIGQUIT)

    def hopeless() -> None:
        end_process("it did not end within the time that a stopping worker has", 1)

    def begin(how: str = "", **_: Any) -> None:
        left = seconds if how == "Warm" else 0.0
        steps = [(left + COLD_SECONDS, hopeless)]
        if how == "Warm":
            steps.append((left, cold))
            log.info("worker.draining", seconds=seconds)
        for after, step in steps:
            timer = threading.Timer(after, step)
            timer.daemon = True
            timer.start()
        faulthandler.dump_traceback_later(left + 2 * COLD_SECONDS, exit=True)

    signals.worker_shutting_down.connect(begin, weak=False)


def run_worker(app: Any, queues: Sequence[str] = ()) -> int:
    """Run the worker of a service's app, on these of its queues or on all, until SIGTERM or SIGINT; answers the exit code.

    A first signal drains: no new task is taken, running ones may end within `MESH_DRAIN`; then the rest
    is given back, to be taken up by another worker at once.
    """
    worker = app.Worker(
        queues=list(queues),
        pool_cls=app.conf.worker_pool,
        loglevel=app.plumbing.settings.log_level.upper(),
        optimization="fair",
        quiet=True,
        without_heartbeat=False,  # without it Flower sees no worker, and cannot turn events on
    )
    worker.start()
    give_all_back()  # not only at the very end, for which a thread of a handler's own may keep us waiting
    log.info("worker.stopped")
    return int(worker.exitcode or 0)
