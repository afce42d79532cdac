"""Connections between every part and Redis cut at random, also between a script that has run and its reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.faults import recovery
from tests.faults.arena import API_KEY
from tests.faults.checker import check_pushed, last_position
from tests.faults.followers import Follower
from tests.faults.proxy import Proxy
from tests.faults.records import Run
from tests.faults.report import Row
from tests.faults.stage import Stage, play
from tests.faults.ticking import add_beats, check_ticks, stop_beats, wait_for_first_ticks
from tests.faults.witness import Facts

NAME = "connections to Redis cut, replies of scripts lost"
LOSE_REPLIES = 0.02  # of all script calls
CUT_REQUESTS = 0.003  # of all that is sent
ROLES = ("dispatcher", "fault_async", "fault_sync", "api", "beat")


async def run(stage: Stage) -> Row:
    """Every role reaches Redis through a proxy of its own."""
    events, length = stage.pick(short=(120, 4), quick=(300, 10), normal=(1_500, 50))
    async with stage.arena() as arena:
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
            for proxy in proxies.values():
                proxy.lose_replies, proxy.cut_requests = LOSE_REPLIES, CUT_REQUESTS
            while not published.is_set():
                await asyncio.sleep(arena.rng.uniform(0.0, 1.0))
                arena.rng.choice(list(proxies.values())).cut_all()
            for proxy in proxies.values():
                proxy.lose_replies = proxy.cut_requests = 0.0
            until = await stop_beats(arena, beats)

        played = await play(arena, events, length, trouble, strict=True, patience=90)
        seen = await follower.stop_after(last_position(played.facts), 20)
        check_pushed(played.findings, played.facts, [seen])
        check_ticks(played.findings, arena, until)
        lost = {role: proxy.scripts_lost for role, proxy in proxies.items()}
        cuts = sum(proxy.cuts for proxy in proxies.values())
        played.remarks.append(
            f"{cuts:,} connections cut, and {sum(lost.values()):,} replies of scripts that had run lost: {lost}"
        )
        idle = _attempts_without_a_run(played.facts, arena.runs())
        if idle:
            played.findings.doubled.append(f"{idle} attempts were counted in which no handler ran")
        for proxy in proxies.values():
            proxy.cut_all()
        row = played.row(NAME, cuts + sum(lost.values()), recovery.slowest_end(played.facts))
    for proxy in proxies.values():
        await proxy.__aexit__(None, None, None)
    return row


def _attempts_without_a_run(facts: Facts, runs: Mapping[str, Sequence[Run]]) -> int:
    told = Counter(note.task for note in facts.told if note.type == "task.started")
    return sum(
        max(0, told[hands[0].task] - len(runs.get(hands[0].task, ()))) for hands in facts.handed.values()
    )
