"""A service's worker in a test's process: its handlers run on one loop, with the ledger and the queue of a real mesh.

Celery's own consumer and pools are left out; who tests those, or parts of workflows, starts the worker as a process
(`mesh.start`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streammesh import lua
from streammesh.errors import Malformed
from streammesh.keys import PRIORITIES, WORKERS, Keys
from streammesh.redisio.client import open_async
from streammesh.service import Service
from streammesh.settings import MeshSettings
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.task import AttemptOutcome
from streammesh.transport.codec import WAKE, decode
from streammesh.transport.scripts import QueueCalls, Read
from streammesh.worker.refs import queue_place, task_ref
from streammesh.worker.running_handlers import cancel

BLOCK_MS = 1_000
MOST = 64  # handlers at once


class TrialWorker:
    """One worker of one service. Its methods are for the mesh's loop."""

    def __init__(self, service: Service, settings: MeshSettings) -> None:
        self.service = service
        self._settings, self._keys = settings, Keys(settings.namespace)
        self._plumbing = service.plumbing_for(settings)
        self._tasks = service.delivery_tasks(self._plumbing)
        queues = service.manifest().queue_names
        self._places = {
            stream: (queue, priority)
            for queue in queues
            for stream, priority in zip(self._keys.queue_streams(queue), PRIORITIES, strict=True)
        }
        self._lives = 0
        self._running: dict[asyncio.Task[None], Read] = {}
        self.broken: list[BaseException] = []  # what ended a delivery without a verdict
        self._client: Redis
        self._reader: Redis
        self._reading: asyncio.Task[None]

    @property
    def _name(self) -> str:
        return f"{self.service.name}-{self._lives}@tests"

    @property
    def _calls(self) -> QueueCalls:
        lease = round(self._settings.lease.total_seconds() * 1000)
        return QueueCalls(self._keys, self._name, lease, 50, self._settings.dead_letters_kept)

    async def start(self) -> None:
        """Register what the service wants, and begin to take tasks."""
        self._client = open_async(self._settings, "test-worker")
        self._reader = open_async(self._settings, "test-worker-read", blocking=True)
        await lua.run(self._client, register_call(self._keys, self.service.manifest()))
        await lua.run(self._client, self._calls.declare(list(self._places), None, joins=True))
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._ended)

    @property
    def is_idle(self) -> bool:
        """Whether no handler of it runs."""
        return not self._running

    async def _read(self) -> None:
        while True:
            waits = dict.fromkeys(self._places, ">")
            try:
                found: Any = await self._reader.xreadgroup(WORKERS, self._name, waits, MOST, BLOCK_MS)
            except RedisError:
                await asyncio.sleep(0.05)  # a test has taken the server away
                continue
            for stream, entries in found or ():
                for entry, fields in entries:
                    self._begin(Read(stream.decode(), entry.decode(), 1, fields or {}))

    def _begin(self, read: Read) -> None:
        task = asyncio.create_task(self._deliver(read))
        self._running[task] = read
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)  # of the one that reads, nothing
        if not task.cancelled() and (error := task.exception()):
            self.broken.append(error)

    async def _deliver(self, read: Read) -> None:
        queue, priority = self._places[read.stream]
        if WAKE not in read.fields:
            try:
                message = decode(read.fields, queue, read.entry, priority=priority)
            except (Malformed, ValueError) as error:
                self.broken.append(error)
            else:
                if (await self._attempt(message)).leaves_entry:
                    return
        await lua.run(self._client, self._calls.ack({read.stream: [read.entry]}))

    async def _attempt(self, message: dict[str, Any]) -> AttemptOutcome:
        headers = message["headers"]
        task = self._tasks.get(headers["task"])
        if task is None:
            raise LookupError(
                f"{headers['task']} is no handler of {self.service.name}: parts of workflows and plain tasks need"
                " the worker as a process; start it with mesh.start(MODULE)"
            )
        ref = task_ref(headers["id"], task.subscription, message["parsed"][0][0])
        tag = message["properties"]["delivery_tag"]
        return await task.deliver(ref, queue_place(tag, self.service.name), self._name)

    async def crash(self) -> int:
        """End as by SIGKILL: what runs is cut off in the middle, and begun again under another name. Answers how many."""
        cut = dict(self._running)
        for task in cut:
            cancel(task)
        await asyncio.gather(*cut, return_exceptions=True)
        self._lives += 1
        for read in cut.values():
            await self._client.xclaim(read.stream, WORKERS, self._name, 0, [read.entry], justid=True)
            self._begin(read)
        return len(cut)

    async def stop(self) -> None:
        """End in good order: handlers that run are stopped, resources closed."""
        self._reading.cancel()
        for task in list(self._running):
            cancel(task)
        await asyncio.gather(self._reading, *self._running, return_exceptions=True)
        await self._plumbing.resources.close()
        await self._plumbing.connections.aclose()
        await self._client.aclose()
        await self._reader.aclose()
