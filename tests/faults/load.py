"""Publishes over the front door, as eight programs that have nothing to do with each other, and remembers what it was told.

Half of them use `MeshClient`, half speak HTTP themselves: structured, binary and batch. Every publisher sends an
event again, under the same id, until it is accepted; a few give up instead and never know (`unsure`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import orjson
from streammesh.client import ApiError, MeshClient
from streammesh.errors import MeshUnavailable

from tests.faults.mix import Kind, Wish
from tests.faults.witness import Identity

PUBLISHERS = 8
GIVES_UP = 0.1  # of the tries that were left without an answer
TRIES_SECONDS = 60  # a publisher that is not heard for this long fails the run
BATCH = 10


FORGETS = 2.0  # seconds: a server that syncs every second may put a write off for so long


class Unheard(Exception):
    """An event could not be published for a minute."""


@dataclass(slots=True)
class Sent:
    """What one publisher knows of one event. Times are seconds since the epoch."""

    source: str
    id: str
    kind: Kind
    begun: float
    accepted: float | None = None
    tries: int = 0
    refused: str | None = None

    @property
    def identity(self) -> Identity:
        """As the mesh tells events apart."""
        return (self.source, self.id)


class Forgotten(NamedTuple):
    """What a server may have forgotten: all that it had not written at `since`, and what came until `killed`."""

    since: float  # both in seconds since the epoch
    killed: float

    def has(self, at: float) -> bool:
        """Whether what happened at that time may not have been written."""
        return self.since - FORGETS <= at <= self.killed


@dataclass(slots=True)
class History:
    """All publishers' knowledge."""

    sent: list[Sent] = field(default_factory=list)

    @property
    def accepted(self) -> list[Sent]:
        """What was answered with 202."""
        return [sent for sent in self.sent if sent.accepted is not None]

    @property
    def slowest(self) -> float:
        """The longest time from a first try to the 202, in seconds."""
        return max((sent.accepted - sent.begun for sent in self.sent if sent.accepted), default=0.0)


class Load:
    """A load over `seconds`, spread evenly over the publishers."""

    def __init__(
        self,
        url: str,
        key: str,
        rng: random.Random,
        wishes: Sequence[Wish],
        seconds: float,
        *,
        gives_up: bool = True,
    ) -> None:
        self._url, self._key, self._seconds = url, key, seconds
        self._parts = [list(wishes[n::PUBLISHERS]) for n in range(PUBLISHERS)]
        self._seeds = [rng.getrandbits(32) for _ in range(PUBLISHERS)]
        self._gives_up = GIVES_UP if gives_up else 0.0
        self.history = History()

    async def run(self) -> History:
        """Publish all of it. Raises Unheard."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for n in range(PUBLISHERS):
                publish = self._with_client if n % 2 else self._by_hand
                group.create_task(publish(n, random.Random(self._seeds[n]), began))
        return self.history

    async def _pace(self, began: float, share: float) -> None:
        await asyncio.sleep(max(0.0, began + self._seconds * share - time.monotonic()))

    def _begin(self, n: int, wish: Wish) -> Sent:
        sent = Sent(f"publisher-{n}", wish.id, wish.kind, time.time())
        self.history.sent.append(sent)
        return sent

    async def _with_client(self, n: int, rng: random.Random, began: float) -> None:
        wishes = self._parts[n]
        async with MeshClient(self._url, api_key=self._key, source=f"publisher-{n}") as mesh:
            for i, wish in enumerate(wishes):
                await self._pace(began, i / len(wishes))
                sent, attributes = self._begin(n, wish), wish.attributes()
                while True:
                    sent.tries += 1
                    try:
                        await mesh.publish(wish.kind.type, dict(wish.data), id=wish.id, **attributes)
                    except MeshUnavailable:
                        self._look_at_clock(sent)
                        continue
                    except ApiError as error:
                        sent.refused = str(error)
                        break
                    sent.accepted = time.time()
                    break

    async def _by_hand(self, n: int, rng: random.Random, began: float) -> None:
        wishes = self._parts[n]
        # A connection of its own for every request, so that a killed replica is not asked again and again.
        connector = aiohttp.TCPConnector(force_close=n % 4 == 0)
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            i = 0
            while i < len(wishes):
                await self._pace(began, i / len(wishes))
                count = rng.randint(2, BATCH) if rng.random() < 0.15 else 1
                batch = wishes[i : i + count]
                i += len(batch)
                await self._insist(http, n, rng, batch)

    async def _insist(
        self, http: aiohttp.ClientSession, n: int, rng: random.Random, batch: Sequence[Wish]
    ) -> None:
        body, headers = _request(n, batch, binary=rng.random() < 0.3)
        headers["Authorization"] = f"Bearer {self._key}"
        sents = [self._begin(n, wish) for wish in batch]
        while True:
            for sent in sents:
                sent.tries += 1
            try:
                async with http.post(f"{self._url}/v1/events", data=body, headers=headers) as answer:
                    text = await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError):
                if rng.random() < self._gives_up:
                    return
            else:
                if answer.status == 202:
                    for sent in sents:
                        sent.accepted = time.time()
                    return
                if answer.status != 503:
                    for sent in sents:
                        sent.refused = f"{answer.status} {text.decode('utf-8', 'replace')[:200]}"
                    return
            self._look_at_clock(sents[0])
            await asyncio.sleep(rng.uniform(0.02, 0.2))

    @staticmethod
    def _look_at_clock(sent: Sent) -> None:
        if time.time() - sent.begun > TRIES_SECONDS:
            raise Unheard(sent.id)


def _request(n: int, batch: Sequence[Wish], *, binary: bool) -> tuple[bytes, dict[str, str]]:
    events: list[dict[str, Any]] = [
        {
            "specversion": "1.0",
            "id": wish.id,
            "source": f"publisher-{n}",
            "type": wish.kind.type,
            "data": dict(wish.data),
            **wish.attributes(),
        }
        for wish in batch
    ]
    if len(events) > 1:
        return orjson.dumps(events), {"Content-Type": "application/cloudevents-batch+json"}
    [event] = events
    if not binary:
        return orjson.dumps(event), {"Content-Type": "application/cloudevents+json"}
    data = event.pop("data")
    headers = {f"ce-{name}": str(value) for name, value in event.items()}
    return orjson.dumps(data), {"Content-Type": "application/json", **headers}
