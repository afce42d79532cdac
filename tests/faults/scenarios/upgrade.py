"""An earlier version replaced by this one under load, process by process, in either order: nobody notices but the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.faults import recovery
from tests.faults.arena import ROLES, Arena
from tests.faults.earlier import earlier_commit, unpacked
from tests.faults.report import Row, together
from tests.faults.stage import Stage, play

NAME = "an earlier version replaced, process by process"
DRAIN = 3.0  # seconds
ORDERS = (
    ("dispatcher", "api", "fault_async", "fault_sync"),
    ("fault_sync", "fault_async", "api", "dispatcher"),
)
MODULES = {**ROLES, "api": "services.api"}


async def run(stage: Stage) -> Row:
    """Dispatchers and API first, then the workers; and the other way round, each from a mesh of the earlier version."""
    commit = await asyncio.to_thread(earlier_commit)
    if commit is None:
        return Row(NAME, 0, 0, 0, 0, 0.0, True, ["skipped: the clone does not have the earlier commit"])
    tree = await asyncio.to_thread(unpacked, commit, stage.folder.parent)
    rows = [await _replace(stage, tree, order) for order in ORDERS]
    told = together(rows, range(1, len(rows) + 1))
    told.remarks = [
        text.replace("seed 1", "core first").replace("seed 2", "workers first") for text in told.remarks
    ]
    told.remarks.append(f"from {commit[:7]}")
    return told


async def _replace(stage: Stage, tree: Path, order: Sequence[str]) -> Row:
    events, length = stage.pick(short=(120, 8), quick=(200, 12), normal=(800, 40))
    async with stage.arena(MESH_DRAIN=f"{DRAIN}s", API_DRAIN=f"{DRAIN}s") as arena:
        await _add_earlier(arena, tree)
        await arena.ready()
        is_earlier = not await arena.client.exists(
            arena.keys.format()
        )  # which the version before did not write
        stops = 0
        codes: set[int] = set()

        async def trouble(published: asyncio.Event) -> None:
            nonlocal stops
            for role in order:
                for part in [one for one in arena.parts if one.role == role]:
                    codes.add(await part.stop())
                    part.become(MODULES[role])
                    await part.start()
                    stops += 1
                    await asyncio.sleep(length / len(arena.parts) / 2)

        played = await play(arena, events, length, trouble, strict=True)
        if not await arena.client.exists(arena.keys.format()):
            played.findings.lost.append("no process of this version has met the mesh")
        if codes - {0}:
            played.findings.lost.append(f"not every process ended cleanly: {sorted(codes - {0})}")
        if not is_earlier:
            played.remarks.append("the earlier version writes the format of this one, too")
        return played.row(NAME, stops, recovery.slowest_end(played.facts), within=DRAIN + 8)


async def _add_earlier(arena: Arena, tree: Path) -> None:
    earlier = "tests.faults.earlier"
    for role, env in (("dispatcher", {}), ("fault_async", {}), ("fault_sync", {"MESH_CONCURRENCY": "2"})):
        await arena.add(role, 2, module=earlier, argv=(str(tree), MODULES[role]), **env)
    await arena.add_api(2, module=earlier, argv=(str(tree), MODULES["api"]))
