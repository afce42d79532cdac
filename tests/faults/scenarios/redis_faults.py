"""Redis goes away under load: stopped, killed, paused. Everybody works again by himself soon after it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from streammesh.embedded import free_port

from tests.faults import recovery
from tests.faults.arena import API_KEY, Arena
from tests.faults.checker import check_pushed, last_position
from tests.faults.followers import Follower
from tests.faults.load import Forgotten
from tests.faults.report import Row
from tests.faults.stage import Stage, play

SERVICES = ("fault_async", "fault_sync")
BACK_SECONDS = 5.0  # after Redis is back everything has worked again by then
RATE = 25  # events a second
REFUSES_SECONDS = 4.0

Break = Callable[[Arena, int], Awaitable[tuple[float, Forgotten | None]]]


async def restarts_everysec(stage: Stage) -> Row:
    """A server that writes to disk every second, as is usual."""
    return await _restarts(stage, "everysec", "Redis stopped or killed, started again (AOF everysec)")


async def restarts_always(stage: Stage) -> Row:
    """A server that writes to disk before it answers."""
    return await _restarts(stage, "always", "Redis stopped or killed, started again (AOF always)")


async def pauses(stage: Stage) -> Row:
    """A server that answers nothing for a while, with all its connections open: five leases long."""
    seconds = stage.pick(quick=5.0, normal=10.0)

    async def pause(arena: Arena, number: int) -> tuple[float, Forgotten | None]:
        arena.server.pause()
        await asyncio.sleep(seconds)
        arena.server.resume()
        return time.time(), None

    times = stage.pick(quick=1, normal=2)
    return await play_breaks(
        stage, "everysec", f"Redis paused for {seconds:.0f} s", pause, times, seconds + 6
    )


async def refusals(stage: Stage) -> Row:
    """A server that refuses every write: it has too few replicas, then it is a replica itself."""

    async def refuse(arena: Arena, number: int) -> tuple[float, Forgotten | None]:
        nobody = ("127.0.0.1", str(free_port()))
        if number % 2:
            await arena.client.execute_command("REPLICAOF", *nobody)
        else:
            await arena.client.config_set("min-replicas-to-write", "1")
        await asyncio.sleep(REFUSES_SECONDS)
        if number % 2:
            await arena.client.execute_command("REPLICAOF", "NO", "ONE")
        else:
            await arena.client.config_set("min-replicas-to-write", "0")
        return time.time(), None

    times = stage.pick(quick=2, normal=6)
    name = "Redis refuses writes (NOREPLICAS, READONLY)"
    return await play_breaks(stage, "everysec", name, refuse, times, REFUSES_SECONDS + 6)


async def _restarts(stage: Stage, fsync: str, name: str) -> Row:
    async def restart(arena: Arena, number: int) -> tuple[float, Forgotten | None]:
        kill = number % 2 == 1
        down = time.time()
        await arena.server_down(kill=kill)
        forgotten = Forgotten(down, time.time())
        await asyncio.sleep(arena.rng.uniform(0.1, 1.5))
        back = await arena.server_up()
        return back, forgotten if kill and fsync == "everysec" else None

    return await play_breaks(stage, fsync, name, restart, stage.pick(quick=2, normal=10), 6.0)


async def play_breaks(
    stage: Stage,
    fsync: str,
    name: str,
    breaks: Break,
    times: int,
    every: float,
    prefix: tuple[str, ...] = (),
) -> Row:
    """Break the server `times` times under load; answers the row."""
    length = times * every
    async with stage.arena(fsync=fsync, prefix=prefix) as arena:
        await arena.add("dispatcher", 2)
        await arena.add("fault_async", 2)
        await arena.add("fault_sync", 2, MESH_CONCURRENCY="2")
        await arena.add_api(2)
        await arena.ready()
        follower = Follower(arena.url, API_KEY, "fault.*")
        follower.start()
        backs: list[float] = []
        forgetful: list[Forgotten] = []

        async def trouble(published: asyncio.Event) -> None:
            began = time.monotonic()
            for number in range(times):
                await asyncio.sleep(max(0.5, began + number * every + 1 - time.monotonic()))
                back, forgot = await breaks(arena, number)
                backs.append(back)
                if forgot is not None:
                    forgetful.append(forgot)

        played = await play(
            arena, round(RATE * length), length, trouble, strict=True, patience=90, forgetful=forgetful
        )
        seen = await follower.stop_after(last_position(played.facts), 20)
        if not played.findings.forgotten:
            check_pushed(played.findings, played.facts, [seen])
        ended = [part.name for part in arena.parts if not part.running]
        if ended:
            played.findings.lost.append(f"these processes ended: {ended}")
        if arena.came_back:
            played.remarks.append(
                f"{len(arena.came_back)} events that the server had forgotten came back with its next start, behind the router"
            )
        accepted = [sent.accepted for sent in played.history.sent if sent.accepted]
        slowest = recovery.slowest_return(played.facts, backs, accepted, SERVICES)
        return played.row(name, times, slowest, within=BACK_SECONDS)
