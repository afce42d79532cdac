"""What the peers' programs share. It runs in every peer's own environment: standard library only.

`python with_X.py fill TASK COUNT | work TASK PROCESSES | latency COUNT | ...`
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

REDIS = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/0")
PAYLOAD = {"n": 1, "text": "x" * 150}  # what the mesh's own events carry, too
IO_SECONDS = 0.01
IN_FLIGHT = 100  # tasks at a time in one process, where the peer has async tasks
WARM_UP = 20
PAUSE_SECONDS = 0.01


def main(**actions: Callable[..., object]) -> None:
    """Run the action that the command line names; print as JSON what it answers."""
    name, *words = sys.argv[1:]
    answer = actions[name](*(int(word) if word.isdigit() else word for word in words))
    if answer is not None:
        print(json.dumps(answer))


def become(*command: str) -> NoReturn:
    """Go on as `python -m ...`: the peer's own command for its worker."""
    os.execv(sys.executable, [sys.executable, "-m", *command])


def spread(task: str, processes: int) -> None:
    """For peers whose worker is one process: start `processes` of them and wait."""
    script = str(Path(sys.argv[0]).resolve())
    children = [subprocess.Popen([sys.executable, script, "work", task, "1"]) for _ in range(processes)]
    signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in children])
    for child in children:
        child.wait()


def timed(request: Callable[[], object], count: int) -> list[float]:
    """Milliseconds that each of `count` requests took, one at a time."""
    took = []
    for n in range(count + WARM_UP):
        began = time.perf_counter()
        request()
        if n >= WARM_UP:
            took.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_SECONDS)
    return took


async def timed_async(request: Callable[[], Awaitable[object]], count: int) -> list[float]:
    """The same for a coroutine function."""
    import asyncio

    took = []
    for n in range(count + WARM_UP):
        began = time.perf_counter()
        await request()
        if n >= WARM_UP:
            took.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    return took
