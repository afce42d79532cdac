"""API replicas killed while they take events in and while they push: what was accepted is there, clients miss nothing."""

from __future__ import annotations

import asyncio
import random

from tests.faults.arena import API_KEY
from tests.faults.checker import check_pushed, last_position
from tests.faults.followers import Follower, Waiter
from tests.faults.report import Row
from tests.faults.stage import Stage, kill_in_turn, play

NAME = "API replicas killed while publishing and pushing"
FOLLOWERS, WAITERS = 3, 3


async def run(stage: Stage) -> Row:
    """Two replicas behind a balancer; whoever was cut off comes back to either."""
    kills, events, length = stage.pick(short=(6, 150, 5), quick=(10, 300, 8), normal=(60, 1_500, 50))
    async with stage.arena() as arena:
        await arena.add("dispatcher")
        await arena.add("fault_async")
        await arena.add("fault_sync")
        replicas = await arena.add_api(2)
        await arena.ready()
        followers = [Follower(arena.url, API_KEY, "fault.*") for _ in range(FOLLOWERS)]
        waiters = [
            Waiter(arena.url, API_KEY, f"waiter-{n}", random.Random(arena.rng.getrandbits(32)))
            for n in range(WAITERS)
        ]
        for follower in followers:
            follower.start()

        async def trouble(published: asyncio.Event) -> None:
            async with asyncio.TaskGroup() as group:
                for waiter in waiters:
                    group.create_task(waiter.run(published))
                await kill_in_turn(arena, replicas, kills, length, published)

        played = await play(
            arena, events, length, trouble, strict=True, also=lambda: [s for w in waiters for s in w.sent]
        )
        last = last_position(played.facts)
        seen = [await follower.stop_after(last, 20) for follower in followers]
        check_pushed(played.findings, played.facts, seen)
        for waiter in waiters:
            played.findings.lost += waiter.lost
            played.findings.doubled += waiter.doubled
        waited = sum(len(waiter.sent) for waiter in waiters)
        played.remarks.append(
            f"slowest publish {played.history.slowest:.2f} s, slowest push {max(s.slowest for s in seen):.2f} s;"
            f" {sum(len(s.ids) for s in seen):,} notifications over {FOLLOWERS} streams; {waited} events awaited"
        )
        slowest = max(played.history.slowest, *(s.slowest for s in seen))
        return played.row(NAME, len(arena.kills), slowest)
