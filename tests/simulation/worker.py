"""A worker below Celery's threads: the kit's queue calls, the real `DeliveryTask.deliver`, real leases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError, ResponseError
from streammesh import lua
from streammesh.keys import WORKERS
from streammesh.redisio.client import is_unavailable, open_async
from streammesh.roles import keep_on
from streammesh.service import Service
from streammesh.tasks.task import AttemptOutcome
from streammesh.transport.codec import WAKE, decode
from streammesh.transport.scripts import QueueCalls, Read, read_answer
from streammesh.worker.refs import queue_place, task_ref

from tests.simulation.sometimes import declare, sometimes
from tests.simulation.world import World

declare(
    "a worker took over what another left",
    "a worker lost a lease while its handler ran",
    "a handler ran again after its worker died",
    "an outcome came too late",
)


class Worker:
    """One life of one worker process of `service`."""

    def __init__(self, world: World, host: str, service: Service) -> None:
        self._world, self._host, self._service = world, host, service
        settings = world.settings
        lease_ms = round(settings.lease.total_seconds() * 1000)
        self._lease = settings.lease.total_seconds()
        self._calls = QueueCalls(world.keys, host, lease_ms, 50, settings.dead_letters_kept)
        self._client = open_async(settings, "worker")
        self._waiting = open_async(settings, "worker-read", blocking=True)
        self._stream = world.keys.queue(service.name)
        self._held: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Read, take over and renew until killed."""
        await keep_on("join", self._join)
        await asyncio.gather(
            keep_on("read", self._read), keep_on("take", self._take), keep_on("renew", self._renew)
        )

    async def _join(self) -> None:
        await lua.run(self._client, self._calls.declare([self._stream], None, joins=True))

    async def _read(self) -> None:
        while True:
            try:
                answer = await self._waiting.execute_command(
                    *("XREADGROUP", "GROUP", WORKERS, self._host, "COUNT", 4, "BLOCK", 300),
                    *("STREAMS", self._stream, ">"),
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                await self._join()
                continue
            self._begin(read_answer(answer))

    async def _take(self) -> None:
        while True:
            taken = await lua.run(self._client, self._calls.take([self._stream], 4, stale=True))
            sometimes("a worker took over what another left", bool(taken.entries))
            self._begin(taken.entries)
            await asyncio.sleep(self._lease / 3)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 4)
            if self._held:
                lost = await lua.run(self._client, self._calls.renew({self._stream: sorted(self._held)}))
                sometimes("a worker lost a lease while its handler ran", bool(lost))
                self._held -= set(lost.get(self._stream, ()))

    def _begin(self, reads: list[Read]) -> None:
        for read in reads:
            if read.entry in self._held:
                continue
            self._held.add(read.entry)
            task = asyncio.get_running_loop().create_task(self._deliver(read))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _deliver(self, read: Read) -> None:
        taken = False
        if WAKE not in read.fields:
            message = decode(read.fields, self._service.name, read.entry)
            headers, body = message["headers"], message["parsed"]
            delivery: Any = self._service.celery_app.tasks[headers["task"]]
            ref = task_ref(headers["id"], delivery.subscription, body[0][0])
            place = queue_place(message["properties"]["delivery_tag"], self._service.name)
            outcome = await delivery.deliver(ref, place, self._host)
            late = outcome in {AttemptOutcome.LOST, AttemptOutcome.SKIPPED}
            sometimes("an outcome came too late", late)
            taken = outcome.took_entry
        if not taken:
            await self._acknowledge(read.entry)
        self._held.discard(read.entry)

    async def _acknowledge(self, entry: str) -> None:
        while entry in self._held:
            try:
                await lua.run(self._client, self._calls.ack({self._stream: [entry]}))
                return
            except RedisError as error:
                if not is_unavailable(error):
                    raise
                await asyncio.sleep(0.1)


def worker(world: World, make: Callable[[str], Service]) -> Callable[[str], Any]:
    """Return a role: a worker of the service that `make(host)` builds."""

    async def role(host: str) -> None:
        await Worker(world, host, make(host)).run()

    return role
