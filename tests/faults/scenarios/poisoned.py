"""Bad data beside good: all good events end, all bad ones are parked with a reason, nobody dies of it, and no
subscription is paused, though the breaker would pause it at five failures in a row of the service itself.
"""

from __future__ import annotations

import asyncio

from tests.faults import recovery
from tests.faults.arena import Arena
from tests.faults.poison import Poison, for_handlers, for_queues, for_streams
from tests.faults.report import Row
from tests.faults.stage import Stage, play
from tests.faults.witness import Facts, Letter

NAME = "bad data beside good, in streams, queues and handlers"
DOMAIN = "fault"
SERVICES = ("fault_async", "fault_sync")
PATIENCE = 30  # seconds; unknown tasks are kept for a while, in case a newer worker knows them


async def run(stage: Stage) -> Row:
    """Bad entries at random moments within the load."""
    bad, events, length = stage.pick(quick=(100, 300, 8), normal=(200, 2_000, 40))
    async with stage.arena(MESH_UNKNOWN_TASK_TIMEOUT="3s", MESH_BREAKER_FAILURES="5") as arena:
        await arena.add("dispatcher", 2)
        await arena.add("fault_async", 2)
        await arena.add("fault_sync", 2, MESH_CONCURRENCY="2")
        await arena.add_api(1)
        await arena.ready()
        keys, rng = arena.keys, arena.rng
        chosen: list[tuple[str, tuple[str, ...], Poison]] = []
        while len(chosen) < bad:
            chosen += [
                *((keys.events(DOMAIN), SERVICES, poison) for poison in for_streams()),
                *((keys.events(DOMAIN), ("fault_async",), poison) for poison in for_handlers(rng)),
                *((keys.queue(s), (s,), poison) for s in SERVICES for poison in for_queues(s, rng)),
            ]
        del chosen[bad:]
        rng.shuffle(chosen)
        put: list[tuple[str, tuple[str, ...], Poison]] = []

        async def trouble(published: asyncio.Event) -> None:
            for stream, services, poison in chosen:
                await asyncio.sleep(rng.uniform(0.0, 1.8 * length / bad))
                entry = await arena.client.xadd(stream, dict(poison.fields))
                put.append((entry.decode(), services, poison))

        played = await play(arena, events, length, trouble, strict=True)
        missing = await _wait_until_parked(arena, put)
        played.facts = arena.facts()
        played.findings.lost += missing
        played.findings.doubled += _parked_twice(played.facts)
        ended = [part.name for part in arena.parts if not part.running]
        if ended:
            played.findings.lost.append(f"these processes ended: {ended}")
        played.findings.events += len(put)
        kinds_parked = len({letter.reason for found in played.facts.parked.values() for letter in found})
        played.remarks.append(
            f"{len(put)} bad entries of {len({poison.what for _, _, poison in put})} kinds, {kinds_parked} different reasons given"
        )
        return played.row(NAME, 0, recovery.slowest_end(played.facts))


async def _wait_until_parked(arena: Arena, put: list[tuple[str, tuple[str, ...], Poison]]) -> list[str]:
    for _ in range(PATIENCE):
        missing = _not_parked(arena.facts(), put)
        if not missing:
            break
        await asyncio.sleep(1)
    return missing


def _not_parked(facts: Facts, put: list[tuple[str, tuple[str, ...], Poison]]) -> list[str]:
    """What is wrong with the parking of bad entries: each should be with every service that reads its stream."""
    missing = []
    for entry, services, poison in put:
        for service in services:
            letters = [
                letter
                for letter in facts.parked.get(service, ())
                if _is_of(letter, entry, poison, service, facts)
            ]
            if not letters:
                missing.append(f"{poison.what}: {entry} was never parked by {service}")
            elif not all(letter.reason for letter in letters):
                missing.append(f"{poison.what}: {entry} was parked by {service} without a reason")
    return missing


def _is_of(letter: Letter, entry: str, poison: Poison, service: str, facts: Facts) -> bool:
    """Whether a letter is about this entry, which may have got another position since."""
    if entry in letter.text:
        return True
    return bool(poison.task) and poison.task.encode() in facts.kept.get((service, letter.id), b"")


def _parked_twice(facts: Facts) -> list[str]:
    twice = []
    for service, letters in facts.parked.items():
        ids = [letter.id for letter in letters]
        twice += [
            f"{service} parked {one} {ids.count(one)} times" for one in sorted(set(ids)) if ids.count(one) > 1
        ]
    return twice
