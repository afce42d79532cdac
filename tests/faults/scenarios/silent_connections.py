"""Connections between every part and Redis that fall silent and are not closed: whoever waits on one gives it up."""

from __future__ import annotations

import asyncio

from tests.faults import recovery
from tests.faults.arena import API_KEY
from tests.faults.checker import check_pushed, last_position
from tests.faults.followers import Follower
from tests.faults.proxy import Proxy
from tests.faults.report import Row
from tests.faults.stage import Stage, play
from tests.faults.ticking import add_beats, check_ticks, stop_beats, wait_for_first_ticks

NAME = "connections to Redis silent, not closed"
ROLES = ("dispatcher", "fault_async", "fault_sync", "api", "beat")
SILENCES = (("dispatcher", "api"), ROLES)
LEASE = 15.0  # seconds, as in production: a shorter one runs out before a silence can be told from a wait


async def run(stage: Stage) -> Row:
    """Every role reaches Redis through a proxy of its own; all of a role's connections fall silent together."""
    silences, events, length = stage.pick(quick=(SILENCES[:1], 150, 10), normal=(SILENCES, 900, 50))
    async with stage.arena(MESH_LEASE=f"{LEASE}s") as arena:
        proxies = {role: Proxy([arena.server.port], arena.rng.getrandbits(32)) for role in ROLES}
        for proxy in proxies.values():
            await proxy.__aenter__()
        env = {role: {"MESH_REDIS_URL": proxy.url} for role, proxy in proxies.items()}
        await arena.add("dispatcher", 2, **env["dispatcher"])
        await arena.add("fault_async", 2, **env["fault_async"])
        await arena.add("fault_sync", 2, MESH_CONCURRENCY="2", **env["fault_sync"])
        await arena.add_api(2, **env["api"])
        beats = await add_beats(arena, 2, **env["beat"])
        await arena.ready()
        await wait_for_first_ticks(arena)
        follower = Follower(arena.url, API_KEY, "fault.*")
        follower.start()
        until = 0.0

        async def trouble(published: asyncio.Event) -> None:
            nonlocal until
            for roles in silences:
                await asyncio.sleep(arena.rng.uniform(0.6, 0.8) * length / len(silences))
                for role in roles:
                    proxies[role].silence()
            until = await stop_beats(arena, beats)

        played = await play(arena, events, length, trouble, strict=True, patience=90)
        seen = await follower.stop_after(last_position(played.facts), 20)
        check_pushed(played.findings, played.facts, [seen])
        check_ticks(played.findings, arena, until)
        ended = [part.name for part in arena.parts if not part.running and part not in beats]
        if ended:
            played.findings.lost.append(f"these processes ended: {ended}")
        silenced = sum(proxy.silenced for proxy in proxies.values())
        played.remarks.append(
            f"slowest push {seen.slowest:.2f} s, slowest publish {played.history.slowest:.2f} s"
        )
        for proxy in proxies.values():
            proxy.cut_all()
        slowest = max(recovery.slowest_end(played.facts), seen.slowest)
        row = played.row(NAME, silenced, slowest)  # no bound is promised: see the page
    for proxy in proxies.values():
        await proxy.__aexit__(None, None, None)
    return row
