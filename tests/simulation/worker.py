"""A worker below Celery's threads: the kit's queue calls and admission, the real `DeliveryTask.deliver`, real leases."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.exceptions import RedisError, ResponseError
from streammesh import lua
from streammesh.keys import PRIORITIES, WORKERS
from streammesh.redisio.client import is_unavailable, open_async
from streammesh.roles import keep_on
from streammesh.rollout.beside import look_call
from streammesh.service import Service
from streammesh.tasks.records import read_task_sync
from streammesh.tasks.task import AttemptOutcome
from streammesh.transport.admission import Admission
from streammesh.transport.poison import park, put_back
from streammesh.transport.scripts import QueueCalls, Read
from streammesh.worker.postponement import postpone_call, unknown
from streammesh.worker.refs import queue_place, task_ref

from tests.simulation.blocking import BlockingClient, on_this_loop
from tests.simulation.canvas import run_part
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.world import World

declare(
    "a worker took over what another left",
    "a worker lost a lease while its handler ran",
    "an outcome came too late",
    "a handler ran again after its worker died",
    "an entry that was given back was taken by another worker",
    "a running handler was stopped because its task was cancelled",
    "a worker left while a handler ran",
    "an entry was put back before its handler began",
    "a task that no worker knew was postponed",
    "a queue entry that nobody can read was parked",
)


@dataclass(frozen=True)
class Manner:
    """How a worker behaves. `stays`: seconds until it leaves in good order (0: never)."""

    stays: float = 0.0
    puts_back_one_in: int = (
        0  # entries of which one goes back before its handler begins, as of a child that died
    )
    max_deliveries: int = 50
    silent_ms: int = 3_600_000  # consumers that are silent for longer are removed


class _Cycle:
    """kombu's order of queues; a worker here reads one."""

    def rotate(self, queue: str) -> None:
        """There is nothing to turn."""


class Worker:
    """One life of one worker process of `service`. To the kit's `Admission` it is the channel and its keeper."""

    no_ack_queues: frozenset[str] = frozenset()
    connection_errors = (RedisError, OSError)

    def __init__(self, world: World, host: str, service: Service, manner: Manner) -> None:
        self._world, self._host, self._service, self._manner = world, host, service, manner
        # Celery's client of results, which would hear of parts' ends over a connection of its own.
        service.celery_app.backend.on_task_call = lambda *_: None
        settings = world.settings
        self._lease = settings.lease.total_seconds()
        lease_ms = round(self._lease * 1000)
        self.calls = QueueCalls(world.keys, host, lease_ms, manner.max_deliveries, settings.dead_letters_kept)
        self._client = open_async(settings, "worker")
        self._waiting = open_async(settings, "worker-read", blocking=True)
        self.commands = BlockingClient(self._client)
        self.keeper = self
        self._streams = world.keys.queue_streams(service.name)
        self._admission = Admission(self, _Cycle())
        self._admission.places.update(
            (stream, (service.name, priority))
            for stream, priority in zip(self._streams, PRIORITIES, strict=True)
        )
        self._admission.workers[service.name] = self
        self._held: dict[str, Any] = {}  # tag -> held
        self._admitted: list[Any] = []
        self._running: dict[str, asyncio.Task[None]] = {}  # tag -> delivery
        self._begun: set[str] = set()
        self._refs: dict[str, Any] = {}

    # --- what admission asks of a channel -------------------------------------------------------

    def hold(self, tag: str, held: Any) -> None:
        """Keep an entry and its lease."""
        self._held[tag] = held

    def run(self, call: lua.Call[Any]) -> Any:
        """Make a call from blocking code."""
        return lua.run_sync(self.commands, call)

    # --- the process ----------------------------------------------------------------------------

    async def live(self) -> None:
        """Read, take over and renew; leave in good order where that is its manner, and end."""
        await keep_on("join", self._join)
        reading = [
            asyncio.ensure_future(keep_on("read", self._read)),
            asyncio.ensure_future(keep_on("take", self._take)),
            asyncio.ensure_future(keep_on("control", self._control)),
        ]
        renewing = asyncio.ensure_future(keep_on("renew", self._renew))
        if not self._manner.stays:
            await asyncio.gather(*reading, renewing)
        await asyncio.sleep(random.uniform(0.3, self._manner.stays))
        for role in reading:
            role.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        await self._drain()
        self._world.end(self._host)

    async def _join(self) -> None:
        await lua.run(self._client, self.calls.declare(self._streams, None, joins=True))

    async def _read(self) -> None:
        while True:
            try:
                reads = await lua.run(self._client, self.calls.read(self._streams, 4))
                if not reads:
                    waits = dict.fromkeys(self._streams, ">")
                    found: Any = await self._waiting.xreadgroup(WORKERS, self._host, waits, 4, 300)
                    reads = [
                        Read(stream.decode(), entry.decode(), 1, fields or {})
                        for stream, entries in found or ()
                        for entry, fields in entries
                    ]
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                await self._join()
                continue
            await self._admit(reads)

    async def _take(self) -> None:
        while True:
            returned = await lua.run(self._client, self.calls.take(self._streams, 4, stale=False))
            sometimes("an entry that was given back was taken by another worker", bool(returned.entries))
            await self._admit(returned.entries)
            taken = await lua.run(self._client, self.calls.take(self._streams, 4, stale=True))
            sometimes("a worker took over what another left", bool(taken.entries))
            await self._admit(taken.entries)
            await lua.run(self._client, self.calls.tidy(self._streams, self._manner.silent_ms))
            await asyncio.sleep(self._lease / 3)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 4)
            held = defaultdict(list)
            for one in self._held.values():
                held[one.stream].append(one.entry)
            if not held:
                continue
            lost = await lua.run(self._client, self.calls.renew(held))
            sometimes("a worker lost a lease while its handler ran", bool(lost))
            for tag, one in list(self._held.items()):
                if one.entry in lost.get(one.stream, ()):
                    self._held.pop(tag, None)

    async def _control(self) -> None:
        """Hear which tasks are to be cancelled, and look now and then, as `worker/cancellation.py` does in a thread."""
        plumbing = self._service.celery_app.plumbing
        assert plumbing is not None
        running = plumbing.running
        async with self._waiting.pubsub() as pubsub:
            await pubsub.subscribe(self._world.keys.control(self._service.name))
            while True:
                told = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                wanted = [told["data"].decode()] if told else []
                for ref in list(self._refs.values()):
                    if not told and await self._client.hget(self._world.keys.task(ref.task_id), "cancel"):
                        wanted.append(ref.task_id)
                for task_id in wanted:
                    stopped = running.stop(task_id)
                    sometimes("a running handler was stopped because its task was cancelled", stopped)

    async def _admit(self, reads: list[Read]) -> None:
        if not reads:
            return
        admitted, _ = await on_this_loop(self._admission.admit, reads)
        sometimes(
            "a queue entry that nobody can read was parked",
            len(admitted) < len(reads) and self._parked(reads),
        )
        for _, message in admitted:
            tag = message["properties"]["delivery_tag"]
            if tag in self._running:
                continue
            task = asyncio.get_running_loop().create_task(self._deliver(tag, message))
            self._running[tag] = task
            task.add_done_callback(partial(self._ended, tag))

    def _ended(self, tag: str, task: asyncio.Task[None]) -> None:
        self._running.pop(tag, None)
        self._world.note_end(task)

    @staticmethod
    def _parked(reads: list[Read]) -> bool:
        return any(b"h" not in read.fields and b"w" not in read.fields for read in reads)

    async def _deliver(self, tag: str, message: dict[str, Any]) -> None:
        held = self._held.get(tag)
        if held is None:
            return
        one_in = self._manner.puts_back_one_in
        if one_in and random.randrange(one_in) == 0:
            self._held.pop(tag, None)
            sometimes("an entry was put back before its handler began")
            await keep_on("put back", lambda: on_this_loop(self._put_back, held))
            return
        outcome = await self._outcome(tag, message)
        if not outcome.leaves_entry:
            await self._acknowledge(tag)
        self._held.pop(tag, None)

    def _put_back(self, held: Any) -> None:
        put_back(self.commands, self.calls, held.queue, held.stream, held.entry)

    async def _outcome(self, tag: str, message: dict[str, Any]) -> AttemptOutcome:
        headers, body = message["headers"], message["parsed"]
        app = self._service.celery_app
        task: Any = app.tasks.get(headers["task"])
        place = queue_place(tag, self._service.name)
        if task is None:
            return await self._postpone(place, message)
        if not hasattr(task, "deliver"):
            await run_part(app, task, message, self.commands, self._client.xadd, self._world.keys)
            return AttemptOutcome.SKIPPED  # its entry is acknowledged
        ref = task_ref(headers["id"], task.subscription, body[0][0])
        self._refs[tag] = ref
        self._begun.add(tag)
        try:
            outcome: AttemptOutcome = await task.deliver(ref, place, self._host)
        finally:
            self._refs.pop(tag, None)
        sometimes("an outcome came too late", outcome in {AttemptOutcome.LOST, AttemptOutcome.SKIPPED})
        return outcome

    async def _postpone(self, place: Any, message: dict[str, Any]) -> AttemptOutcome:
        """As the worker's consumer does it with a task that it does not know."""
        task_id, name = message["headers"]["id"], message["headers"]["task"]
        keys, plumbing = self._world.keys, self._service.celery_app.plumbing
        assert plumbing is not None

        def ask() -> None:
            row = read_task_sync(self.commands, keys, task_id)
            beside = lua.run_sync(self.commands, look_call(keys, place.queue, task_id))
            others = beside.others(name, plumbing.edition())
            call = postpone_call(keys, self._world.settings, place, task_id, name, row, others)
            answer = lua.run_sync(self.commands, call)
            if answer.verdict == "enough":
                stream = keys.queue(place.queue, place.priority)
                found = self.commands.xrange(stream, place.entry, place.entry)
                if found:
                    read = Read(stream, place.entry, 1, dict(found[0][1]))
                    park(self.commands, self.calls, place.queue, read, unknown(name))

        sometimes("a task that no worker knew was postponed")
        await keep_on("postpone", lambda: on_this_loop(ask))
        return AttemptOutcome.PARKED

    async def _acknowledge(self, tag: str) -> None:
        while tag in self._held:
            held = self._held[tag]
            try:
                await lua.run(self._client, self.calls.ack({held.stream: [held.entry]}))
                return
            except RedisError as error:
                if not is_unavailable(error):
                    raise
                await asyncio.sleep(0.1)

    async def _drain(self) -> None:
        """Leave in good order: say what is given back while it ran, give it back, leave the group."""
        plumbing = self._service.celery_app.plumbing
        assert plumbing is not None
        ledger = plumbing.ledger
        back = dict(self._held)
        try:
            for tag, ref in list(self._refs.items()):
                sometimes("a worker left while a handler ran")
                await lua.run(self._client, ledger.drain(ref.task_id, queue_place(tag, self._service.name)))
            by_stream = defaultdict(list)
            for tag, held in back.items():
                if tag in self._held:
                    by_stream[held.stream].append((held.entry, tag in self._begun))
            for stream, entries in by_stream.items():
                await lua.run(self._client, self.calls.give_back(stream, entries))
            self._held.clear()
            for stream in self._streams:
                await lua.run(self._client, self.calls.leave(stream, []))
        except (RedisError, OSError) as error:
            if not is_unavailable(error):
                raise  # what was not given back is taken over when its lease has run out


def worker(world: World, make: Callable[[str], Service], manner: Manner = Manner()) -> Callable[[str], Any]:
    """Return a role: a worker of the service that `make(host)` builds."""

    async def role(host: str) -> None:
        service = make(host)
        world.working.add(service.name)
        await Worker(world, host, service, manner).live()

    return role
