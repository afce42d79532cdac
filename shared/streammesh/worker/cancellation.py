"""Stops running tasks that are wanted cancelled: told over pub/sub at once, and looked up now and then,
since what is told while nobody listens is lost. The wish itself stands in the task's row.

What if SIGKILL here? The wish outlives the worker: whoever takes the task over ends it as cancelled.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from celery.worker import state

from streammesh import lua
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.worker import async_pool, prefork_pool
from streammesh.worker.connections import Connections
from streammesh.worker.internals import job_of
from streammesh.worker.request import MeshRequest
from streammesh.worker.running_handlers import RunningHandlers

LOOK_SECONDS = 3.0  # between looks at the rows of what runs
KILL_AFTER = 5.0  # seconds that a worker process has to end after SIGTERM
log = structlog.get_logger(__name__)


class Stopper:
    """Stops what runs in this worker, whatever its pool can do."""

    def __init__(self, pool: Callable[[], Any], running: RunningHandlers) -> None:
        self._pool, self._running = pool, running
        self._dying: list[tuple[float, Any]] = []  # when to kill, what Celery's pool knows of the job

    def stop(self, task_id: str) -> None:
        """Stop the task of this id, and the parts of its workflow; nothing happens when none runs here."""
        if self._running.stop(task_id):
            log.info("task.stopping", task_id=task_id)
            return
        for request in active_requests():
            if request.id == task_id or str(request.root_id).startswith(f"{task_id}/"):
                log.info("task.stopping", task_id=task_id, task=request.name)
                self._terminate(request)

    def _terminate(self, request: Any) -> None:
        pool = self._pool()
        prefork = isinstance(pool, prefork_pool.TaskPool)
        if prefork or isinstance(pool, async_pool.TaskPool):
            job = job_of(request)
            request.terminate(pool, "TERM")
            if job is not None and prefork:
                self._dying.append((time.monotonic() + KILL_AFTER, job))
        elif isinstance(request, MeshRequest):  # a thread cannot be stopped: what it comes to does not count
            request.cancel_delivery()

    def kill_stubborn(self) -> None:
        """Kill worker processes that go on after SIGTERM."""
        now = time.monotonic()
        due = [job for at, job in self._dying if at <= now]
        self._dying = [(at, job) for at, job in self._dying if at > now and not job.ready()]
        for job in due:
            if not job.ready():
                for pid in job.worker_pids():
                    log.warning("task.killed", pid=pid)
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


class Control:
    """The thread that hears which tasks are to be stopped."""

    def __init__(self, connections: Connections, keys: Keys, service: str, stopper: Stopper) -> None:
        self._connections, self._keys, self._stopper = connections, keys, stopper
        self._channel = keys.control(service)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin; harmless when it has begun. It ends with the process."""
        if not self._thread.is_alive():
            self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self._listen()
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("control.broke")
            time.sleep(1)

    def _listen(self) -> None:
        with self._connections.sync().pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(self._channel)
            looked_at = 0.0
            while True:
                wait = looked_at + LOOK_SECONDS - time.monotonic()
                if wait <= 0:
                    self._look()
                    self._stopper.kill_stubborn()
                    looked_at = time.monotonic()
                    continue
                told = pubsub.get_message(timeout=wait)
                if told and told["type"] == "message":
                    self._stopper.stop(told["data"].decode("utf-8", "replace"))

    def _look(self) -> None:
        """What was told while this worker did not listen, or before the task had begun."""
        ids = [request.id for request in active_requests() if isinstance(request, MeshRequest)]
        if not ids:
            return
        pipeline = self._connections.sync().pipeline(transaction=False)
        for task_id in ids:
            pipeline.hget(self._keys.task(task_id), "cancel")
        for task_id, wanted in zip(ids, pipeline.execute(), strict=True):
            if wanted:
                self._stopper.stop(task_id)


def note_drained(connections: Connections) -> None:
    """This worker stops for good: what it still runs goes to others, and that is no failure of the tasks."""
    requests = [request for request in active_requests() if isinstance(request, MeshRequest)]
    try:
        for request in requests:
            lua.run_sync(connections.sync(), request.drain_call())
    except Exception as error:  # they are given back all the same
        log.warning("redis.away", asked="drain", reason=str(error))


def active_requests() -> list[Any]:
    """What this worker runs at the moment, asked from any thread."""
    while True:
        try:
            return list(state.active_requests)
        except RuntimeError:  # it changed while it was copied
            continue
