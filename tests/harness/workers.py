"""Celery workers of `tests.plain_tasks` as processes, on a mesh of their own."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from streammesh.embedded import EmbeddedServer
from streammesh.keys import WORKERS, Keys
from streammesh.testing.conditions import wait_until_sync

from tests.harness.processes import MeshProcess
from tests.plain_tasks import make_app, tasks_of
from tests.probe.record import runs


class PlainWorkers:
    """Some workers that read the queue `plain`, and what they recorded."""

    def __init__(
        self, server: EmbeddedServer, folder: Path, namespace: str, lease: float = 1.0, prefetch: int = 1
    ) -> None:
        self.namespace, self.lease, self.pool = namespace, lease, ""
        self.keys = Keys(namespace)
        self.prefix, self.stream = self.keys.prefix, self.keys.queue("plain")
        self.redis = redis.Redis.from_url(server.url)
        self.app = make_app(server.url, namespace, lease, prefetch)
        self.tasks = tasks_of(self.app)
        self._folder, self._record = folder, folder / "record.txt"
        self._env = {
            "PLAIN_REDIS": server.url,
            "PLAIN_NAMESPACE": namespace,
            "PLAIN_LEASE": str(lease),
            "PLAIN_PREFETCH": str(prefetch),
            "PROBE_RECORD": str(self._record),
        }
        self._stack = ExitStack()
        self.processes: dict[str, MeshProcess] = {}

    def start(self, pool: str, name: str, concurrency: int = 2, *, wait: bool = True) -> MeshProcess:
        """Start a worker and wait until it reads the queue."""
        self.pool = pool
        args = [
            "-A",
            "tests.plain_tasks.worker_app",
            "worker",
            "-P",
            pool,
            "-c",
            str(concurrency),
            "-n",
            f"{name}@here",
            "-l",
            "info",
        ]
        args += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
        process = MeshProcess(name, "celery", self._env, self._folder, args)
        lines = process.log.read_text().count(" ready.") if process.log.exists() else 0
        self.processes[name] = self._stack.enter_context(process)
        if wait:
            wait_until_sync(
                f"worker {name} is ready",
                lambda: process.log.read_text().count(" ready.") > lines,
                seconds=30,
            )
        return process

    def stop(self, name: str) -> int:
        """End a worker by SIGTERM; answers its exit code."""
        return self.processes[name].stop()

    def wait_gone(self, name: str) -> None:
        """Wait until a worker has ended by itself."""
        wait_until_sync(f"worker {name} is gone", lambda: not self.processes[name].running)

    def runs(self) -> Counter[str]:
        """How often each line was recorded."""
        return runs(self._record)

    def queued(self) -> int:
        """Entries in the queue."""
        return int(self.redis.xlen(self.stream))

    def held(self) -> int:
        """Entries that were delivered and have not ended."""
        return int(self.redis.xpending(self.stream, WORKERS)["pending"])

    @property
    def control(self) -> Any:
        """Celery's remote control."""
        return self.app.control

    def __enter__(self) -> PlainWorkers:
        self._stack.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            self.app.pool.force_close_all()
            self.app.backend.client.connection_pool.disconnect()
            self.app.close()
            self.redis.close()
