"""`make crossing`: the files that a task crosses from the event's stream to its outcome, Python and Lua.

A dispatcher and a worker count the calls into each file while events are done one after the other; a file that was
called into at least once for each of them is crossed. What runs now and then beside (signs of life, renewals) is not.
Of prefork there is none: what its pool's processes call is counted by nobody.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import redis
from streammesh.events.publisher import Publisher
from streammesh.lua import script
from streammesh.tasks.records import Rows
from streammesh.testing.conditions import wait_until

from benchmarks.arena import Arena, arena, until
from tests.harness.processes import MeshProcess

EVENTS = 40
WAYS = {
    "async": ("benchmarks.workers.async_worker", "bench_async", "bench.noop"),
    "threads": ("benchmarks.workers.sync_worker", "bench_sync", "plain.noop"),
}
LUA = Path("shared/streammesh/lua")


async def crossed(way: str) -> tuple[list[str], list[str]]:
    """The Python files of each process, `dispatcher: …` and `worker: …`, and the scripts, that every event crosses."""
    module, role, event_type = WAYS[way]
    async with arena() as made:
        parts = {"dispatcher": "services.dispatcher", "worker": module}
        traced = {name: _start(made, name, of) for name, of in parts.items()}
        try:
            for name in ("dispatcher", role):
                await until(partial(_lives, made, name))
            await _do(made, event_type, 5)
            before = {name: await _counts(*one) for name, one in traced.items()}
            scripts: Counter[str] = Counter()
            with _Monitor(made, scripts):
                await _do(made, event_type, EVENTS)
            found: list[str] = []
            for name, one in traced.items():
                calls = Counter(await _counts(*one)) - Counter(before[name])
                files = sorted(path for path, times in calls.items() if times >= EVENTS)
                found += [f"{name}: {path}" for path in files if not path.startswith("benchmarks/")]
        finally:
            for process, _ in traced.values():
                process.kill()
    return found, sorted(name for name, times in scripts.items() if times >= EVENTS)


async def _lives(made: Arena, role: str) -> bool:
    return bool(await made.redis.zcard(made.keys.alive(role)))


def _start(made: Arena, name: str, module: str) -> tuple[MeshProcess, Path]:
    file = made.folder / f"{name}.json"
    given = {**made.env, "CROSSING_FILE": str(file)}
    process = MeshProcess(name, "benchmarks.crossing.traced", given, made.folder, args=[module])
    return process.start(), file


async def _counts(process: MeshProcess, file: Path) -> dict[str, int]:
    """What a process has counted so far."""
    file.unlink(missing_ok=True)
    process.signal(signal.SIGUSR2)

    async def written() -> dict[str, int] | None:
        return json.loads(file.read_text("utf-8")) if file.exists() else None

    counts = await wait_until(f"{process.name} has written", written)
    assert counts is not None
    return counts


async def _do(made: Arena, event_type: str, count: int) -> None:
    """Publish events, each when the one before has ended."""
    publisher, rows = Publisher(made.redis, made.keys, made.settings, "bench"), Rows(made.redis, made.keys)
    for _ in range(count):
        sent = await publisher.publish(event_type, {})

        async def ended(id: str = sent.id) -> bool:
            found = await rows.events(id)
            return bool(found and found[0].completed)

        await wait_until(f"{sent.id} has ended", ended, seconds=30, every=0.01)


class _Monitor:
    """Counts which scripts the server runs, by MONITOR."""

    def __init__(self, made: Arena, counts: Counter[str]) -> None:
        self._names = {script(path.stem).sha: path.name for path in LUA.glob("[a-z]*.lua")}
        self._counts, self._made = counts, made

    def __enter__(self) -> _Monitor:
        self._client = redis.Redis.from_url(self._made.server.url)
        self._monitor = self._client.monitor()
        self._monitor.__enter__()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _listen(self) -> None:
        try:
            for said in self._monitor.listen():
                words = said["command"].split()
                if words[0].upper() == "EVALSHA" and words[1] in self._names:
                    self._counts[self._names[words[1]]] += 1
        except Exception:
            if not self._over.is_set():
                raise

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._client.close()
        self._monitor.connection.disconnect()


def main(words: list[str]) -> int:
    """Print the files of each way, or of those that were named."""
    for way in words or WAYS:
        python, scripts = asyncio.run(crossed(way))
        print(
            f"{way}: {len({line.partition(': ')[2] for line in python})} Python files, {len(scripts)} scripts"
        )
        print("\n".join(f"  {line}" for line in (*python, *(f"redis: {name}" for name in scripts))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
