"""The server's disk fails: the end of its file is gone after a crash, or there is no room for a while.

What the mesh says afterwards has to be true: what is still there ends once, what is gone was lost by the server and is
not claimed to be done, and what is refused is accepted later.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import time
from pathlib import Path

from streammesh.embedded import NoServer, find_server

from tests.faults.arena import Arena
from tests.faults.load import Forgotten
from tests.faults.report import Row
from tests.faults.scenarios.redis_faults import play_breaks
from tests.faults.stage import Stage

FULL_SECONDS = 4.0
ROOM = 2_000  # bytes that the disk still has
# A limit of the file's size says "no room"; the signal that comes with it would end the server.
BEARS_IT = ("env", "--ignore-signal=XFSZ")


async def cut(stage: Stage) -> Row:
    """Killed, and what it wrote in its last second is gone from a random byte on."""

    async def cut_file(arena: Arena, number: int) -> tuple[float, Forgotten | None]:
        since, before = time.time(), _file(arena).stat().st_size
        await asyncio.sleep(1.0)
        await arena.server_down(kill=True)
        down = time.time()
        size = _file(arena).stat().st_size
        with _file(arena).open("r+b") as file:
            file.truncate(arena.rng.randint(min(before, size), size))
        return await arena.server_up(), Forgotten(since, down)

    times = stage.pick(quick=2, normal=8)
    name = "Redis killed, its file cut at a random byte of the last second"
    return await play_breaks(stage, "everysec", name, cut_file, times, 7.0)


async def bit(stage: Stage) -> Row:
    """Killed, and one bit of what it wrote in its last second is another one.

    A server that cannot read its file does not start; then the file is mended as an operator does it, by the server's own
    tool, which cuts it there. Where the server reads the wrong bit, what it stands for has changed in Redis.
    """

    async def flip(arena: Arena, number: int) -> tuple[float, Forgotten | None]:
        since, before = time.time(), _file(arena).stat().st_size
        await asyncio.sleep(1.0)
        await arena.server_down(kill=True)
        down = time.time()
        size = _file(arena).stat().st_size
        at = arena.rng.randrange(min(before, size - 1), size)
        with _file(arena).open("r+b") as file:
            file.seek(at)
            was = file.read(1)[0]
            file.seek(at)
            file.write(bytes([was ^ 1 << arena.rng.randrange(8)]))
        try:
            return await arena.server_up(), Forgotten(since, down)
        except NoServer:
            _mend(arena)
            return await arena.server_up(), Forgotten(since, down)

    times = stage.pick(quick=2, normal=8)
    name = "Redis killed, one bit of its file flipped"
    return await play_breaks(stage, "everysec", name, flip, times, 7.0)


async def full(stage: Stage) -> Row:
    """No room for a while: every write is refused, then there is room again."""

    async def fill(arena: Arena, number: int) -> tuple[float, Forgotten | None]:
        pid = arena.server.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_file(arena).stat().st_size + ROOM, hard))
        await asyncio.sleep(FULL_SECONDS)
        status = (await arena.client.info("persistence"))["aof_last_write_status"]
        assert status == "err", f"there was room all the time: {status}"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        # It tries again once a second, and refuses until that went well.
        while (await arena.client.info("persistence"))["aof_last_write_status"] != "ok":
            await asyncio.sleep(0.02)
        return time.time(), None

    times = stage.pick(quick=2, normal=6)
    name = "no room on the disk of Redis"
    return await play_breaks(stage, "everysec", name, fill, times, FULL_SECONDS + 6, BEARS_IT)


def _mend(arena: Arena) -> None:
    """Cut the file where it cannot be read, by the server's own tool, which is the same program under another name."""
    program = find_server()
    tool = f"{'valkey' if 'valkey' in Path(program).name else 'redis'}-check-aof"
    subprocess.run(
        [tool, "--fix", _file(arena)], executable=program, input=b"y\n", capture_output=True, check=True
    )


def _file(arena: Arena) -> Path:
    [file] = (arena.server.folder / "appendonlydir").glob("*.incr.aof")
    return file
