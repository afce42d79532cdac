"""Those who come back together read the past together, and one who takes nothing keeps nobody waiting."""

from __future__ import annotations

import asyncio

from streammesh.api_keys import ApiKey
from streammesh.notifications import Filter

from services.api.push.told import Missed, Stretch, Told

ADMIN = ApiKey("a", admin=True)


class Client:
    """An outlet that remembers what came; `free` as long as it is told to be."""

    def __init__(self, *, free: bool = True) -> None:
        self.heard: list[str] = []
        self.stretches: list[Stretch] = []
        self.free = free

    def tell(self, told: Told | Missed) -> None:
        self.heard.append(told.note.id if isinstance(told, Told) else "resync")

    def tell_stretch(self, stretch: Stretch) -> None:
        self.stretches.append(stretch)
        for told in stretch.told:
            self.tell(told)

    def beat(self, position: str) -> None: ...

    def close(self, why: str) -> None: ...

    def hurry(self) -> None: ...


async def test_two_hundred_who_are_behind_are_served_by_a_few_reads(api, door, mesh):
    hub = door.app.state.wiring.hub
    told = await mesh.tell(n=2_000)
    clients = []
    for number in range(200):
        follower, client = hub.open(ADMIN, Filter()), Client()
        after = number * 7
        clients.append((follower, client, after))
        await hub.ensure_reading()
        hub.connect(follower, client)
        hub.follow(follower, told[after])
    told += await mesh.tell(n=5)
    async with asyncio.timeout(60):
        while not all(client.heard and client.heard[-1] == told[-1] for _, client, _ in clients):
            await asyncio.sleep(0.01)

    for follower, client, after in clients:
        assert client.heard == told[after + 1 :]
        hub.close(follower)
    joined = {id(stretch) for _, client, _ in clients for stretch in client.stretches}
    assert hub._catch_up.pages < 40 and len(joined) < 400  # 200 times 6 without sharing


async def test_who_takes_nothing_of_the_past_keeps_nobody_waiting_and_goes_on_where_he_was(api, door, mesh):
    hub = door.app.state.wiring.hub
    told = await mesh.tell(n=1_200)
    await hub.ensure_reading()
    stuck, quick = (hub.open(ADMIN, Filter()) for _ in range(2))
    stuck_client, quick_client = Client(free=False), Client()
    for follower, client in ((stuck, stuck_client), (quick, quick_client)):
        hub.connect(follower, client)
        hub.follow(follower, "0-0")
    async with asyncio.timeout(10):
        while len(quick_client.heard) < len(told):
            await asyncio.sleep(0.01)
    assert stuck_client.heard == [] and stuck.ended is None
    stuck_client.free = True
    stuck.flush()
    told += await mesh.tell()
    async with asyncio.timeout(10):
        while len(stuck_client.heard) < len(told):
            await asyncio.sleep(0.01)

    assert stuck_client.heard == told and quick_client.heard == told


async def test_who_comes_while_a_stretch_is_gone_through_misses_nothing_of_it(api, door, mesh, monkeypatch):
    """What a newcomer wants was not looked for in a stretch that was under way: it is not counted as told."""
    hub = door.app.state.wiring.hub
    told = await mesh.tell(n=1_000)
    await hub.ensure_reading()
    first = hub.open(ADMIN, Filter())
    hub.connect(first, Client())
    hub.follow(first, "0-0")
    others = []
    for number in range(60):
        follower, client = hub.open(ADMIN, Filter(types=("a.b", f"x{number}"))), Client()
        hub.connect(follower, client)
        hub.follow(follower, told[number * 10])
        others.append((follower, client, told[number * 10 + 1 :]))
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while not all(client.heard[-1:] == told[-1:] for _, client, _ in others):
            await asyncio.sleep(0.01)

    assert all(client.heard == expected for _, client, expected in others)
