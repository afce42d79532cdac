"""Another broker: the kit's forwarder sends queue entries there, and a worker is brought them by it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

from streammesh import lua
from streammesh.brokers import forwarder as forwarding_module
from streammesh.brokers.forwarder import Forwarder
from streammesh.brokers.publisher import BrokerAway
from streammesh.redisio.client import open_async
from streammesh.roles import keep_on
from streammesh.service import Service
from streammesh.tasks.task import QueuePlace
from streammesh.transport.codec import parse_tag
from streammesh.transport.scripts import unread_calls
from streammesh.worker.refs import task_ref

from tests.simulation import checkers
from tests.simulation.blocking import BlockingClient, on_this_loop
from tests.simulation.faults import KINDS
from tests.simulation.scenarios import Scenario, a_world
from tests.simulation.sometimes import declare, sometimes
from tests.simulation.witness import witness
from tests.simulation.world import World

declare(
    "another broker lost a task, and it was sent again",
    "another broker brought a task twice",
    "another broker was away when a task was to be sent",
)


def _forget(running: dict[str, Any], tag: str, task: object) -> None:
    running.pop(tag, None)


class Broker:
    """A broker at the side: it keeps messages, brings some twice, loses some, and is away now and then."""

    def __init__(self) -> None:
        self.waiting: list[Mapping[str, Any]] = []
        self.sent: dict[str, int] = {}
        self.lost: set[str] = set()
        self.faults = 3

    def trouble(self, one_in: int) -> bool:
        """Return whether something goes wrong; a few times in a run."""
        wrong = self.faults > 0 and random.randrange(one_in) == 0
        self.faults -= wrong
        return wrong


class SimulatedOutlet:
    """`brokers.publisher.Outlet` onto such a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._broker.waiting)

    def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Send; when it raises, some may have been sent."""
        for message in messages:
            if self._broker.trouble(6):
                sometimes("another broker was away when a task was to be sent")
                raise BrokerAway("it is away")
            tag = str(message["properties"].get("delivery_tag"))
            again = self._broker.sent.get(tag, 0)
            self._broker.sent[tag] = again + 1
            sometimes("another broker lost a task, and it was sent again", tag in self._broker.lost)
            if not again and self._broker.trouble(4):
                self._broker.lost.add(tag)
                continue
            self._broker.waiting.append(message)
            if self._broker.trouble(4):
                sometimes("another broker brought a task twice")
                self._broker.waiting.append(message)

    def close(self) -> None:
        """There is no connection."""


def forward(world: World, broker: Broker) -> Callable[[str], Any]:
    """Return a role: the forwarder of the service `mail`."""

    async def role(host: str) -> None:
        with (
            patch.object(forwarding_module, "Outlet", lambda app, queue: SimulatedOutlet(broker)),
            patch.object(forwarding_module, "open_sync", lambda s, name: BlockingClient(open_async(s, name))),
        ):
            forwarder = Forwarder(world.settings, None, "mail")

        async def steps() -> None:
            while True:
                try:
                    await on_this_loop(forwarder.step)
                except Exception as error:
                    forwarder._failed(error)
                    await asyncio.sleep(0.3)

        await keep_on("forwarder", steps)

    return role


def brought(world: World, broker: Broker, make: Callable[[str], Service]) -> Callable[[str], Any]:
    """Return a role: a worker that the broker brings its tasks; what it had when it died is brought again."""

    async def role(host: str) -> None:
        service = make(host)
        world.working.add(service.name)
        calls = unread_calls(world.settings, host)
        client = open_async(world.settings, "worker")
        stream = world.keys.queue("mail")
        running: dict[str, asyncio.Task[None]] = {}

        async def renew() -> None:
            while True:
                await asyncio.sleep(world.settings.lease.total_seconds() / 4)
                if running:
                    held = {stream: [parse_tag(tag).entry for tag in running]}
                    await lua.run(client, calls.renew(held))

        async def deliver(message: Mapping[str, Any]) -> None:
            tag = message["properties"]["delivery_tag"]
            task: Any = service.celery_app.tasks[message["headers"]["task"]]
            ref = task_ref(message["headers"]["id"], task.subscription, message["parsed"][0][0])
            await task.deliver(ref, QueuePlace(*parse_tag(tag)), host)

        async def read() -> None:
            while True:
                await asyncio.sleep(0.05)
                while broker.waiting:
                    message = broker.waiting.pop(0)
                    tag = str(message["properties"]["delivery_tag"])
                    task = asyncio.get_running_loop().create_task(deliver(message))
                    running[tag] = task
                    task.add_done_callback(partial(_forget, running, tag))

        await asyncio.gather(keep_on("renew", renew), keep_on("read", read))

    return role


def other_broker(*, events: int = 3, budget: int = 3, kinds: tuple[str, ...] = KINDS) -> Scenario:
    """Return a scenario: two forwarders and two workers on another broker, which loses and doubles messages."""

    async def run() -> None:
        settings = {"broker_url": "amqp://elsewhere"}
        async with a_world(budget, kinds=kinds, settings=settings) as world:
            make = witness(world, takes=(0.0, 0.3))
            await world.register(make("first"))
            ids = [f"e{n}" for n in range(events)]
            broker = Broker()
            world.start("dispatcher", world.dispatcher)
            for name in ("forwarder a", "forwarder b"):
                world.start(name, forward(world, broker))
            for name in ("mail a", "mail b"):
                world.start(name, brought(world, broker, make))
            world.start("publisher", world.publisher(ids, "user.registered", lambda _: {}))
            await world.settle(lambda client: checkers.all_told(client, world, ["mail"], events, events), 180)
            await world.plain(
                lambda client: checkers.exactly_once(client, world, dict.fromkeys(ids, 1), requeued=True)
            )

    return run
