"""Measures one peer at one thing, on a server of its own, as the mesh itself is measured."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import redis.asyncio
from streammesh.embedded import EmbeddedServer, free_port

from benchmarks import push
from benchmarks.arena import Cost, cost_until, listens, until
from benchmarks.front_door import event
from benchmarks.http_load import Load, post
from benchmarks.machine import resident_mb
from benchmarks.measuring import Results, percentile
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.programs.counting import total
from benchmarks.server import server

PROGRAMS = Path(__file__).parent / "programs"
LONGEST = 120  # seconds that any step of a peer may take


@dataclass
class Stage:
    """A private server and the peer's processes on it."""

    peer: Peer
    python: Path
    folder: Path
    server: EmbeddedServer
    env: dict[str, str]

    @property
    def counts(self) -> Path:
        """Where its workers count what they ran."""
        return self.folder / "counts"

    async def cost(self, size: int, **pids: int) -> Cost:
        """What it costs until `size` were run."""

        async def done() -> int:
            return total(self.counts)

        groups = {name: [pid] for name, pid in pids.items()} | {"server": [self.server.pid]}
        return await cost_until(done, size, groups, LONGEST)

    async def run(self, *words: object) -> bytes:
        """One action of its program, to the end; answers what it printed."""
        process = self._start(words, subprocess.PIPE)
        try:
            out, _ = await asyncio.to_thread(process.communicate, timeout=LONGEST)
        finally:
            _kill(process)
        if process.returncode:
            raise RuntimeError(f"{self.peer.name}: {words[0]} ended with {process.returncode}")
        return out

    @contextmanager
    def running(self, *words: object) -> Iterator[int]:
        """An action that goes on until it is killed; answers its process id."""
        process = self._start(words, subprocess.DEVNULL)
        try:
            yield process.pid
        finally:
            _kill(process)

    def _start(self, words: tuple[object, ...], out: int) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self.python), str(PROGRAMS / self.peer.program), *map(str, words)],
                env=self.env, cwd=PROGRAMS, stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                start_new_session=True,
            )  # fmt: skip


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


@contextmanager
def _stage(peer: Peer, python: Path) -> Iterator[Stage]:
    with TemporaryDirectory(prefix="peer-bench-") as name, server(Path(name) / "redis") as running:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MESH_", "PYTHON"))}
        env |= {
            "BENCH_REDIS": running.url,
            "BENCH_COUNTS": f"{name}/counts",
            "PYTHONPATH": str(PROGRAMS),
        }
        stage = Stage(peer, python, Path(name), running, env)
        stage.counts.mkdir()
        try:
            yield stage
        except BaseException:
            print(f"--- {peer.name}\n{(stage.folder / 'log').read_text('utf-8', 'replace')[-1000:]}")
            raise


async def measure(results: Results, peer: Peer, python: Path, what: str, share: float) -> None:
    """Add what the peer reaches at `what` to the results, under the names that the mesh's figures have."""
    size = max(50, int(peer.sizes[what] * share))
    with _stage(peer, python) as stage:
        if what == "publish":
            await _publish(results, stage, size)
        elif what.startswith("push."):
            await _push(results, stage, what, size)
        elif what == "latency.low":
            await _latency(results, stage, size)
        elif what == "handoff.1p":
            await stage.run("events", size)
            with stage.running("handoff") as pid:
                cost = await stage.cost(size, dispatcher=pid)
            cost.add_to(results, what, "event", peer.name)
        else:
            task = "io" if "io10ms" in what else "noop"
            await stage.run("fill", task, size)
            with stage.running("work", task, 2 if what.endswith("2p") else 1) as pid:
                cost = await stage.cost(size, worker=pid)
                if what.endswith("1p"):
                    results.add(f"memory.rss.{what}", "MB", resident_mb(pid), peer.name)
            cost.add_to(results, what, "task", peer.name)


async def _push(results: Results, stage: Stage, what: str, size: int) -> None:
    port = free_port()
    client = redis.asyncio.Redis.from_url(stage.server.url)
    with stage.running("serve", port) as pid:
        await until(lambda: listens(port))
        there = push.Stage(stage.peer.name, f"http://127.0.0.1:{port}", pid, client, "{mesh}:notifications")
        if what == "push.filters":
            await push.one_of_many(results, there, "subject", push.KINDS["subject"], size)
        else:
            await push.to_all(results, there, size)
    await client.aclose()


async def _latency(results: Results, stage: Stage, size: int) -> None:
    with stage.running("work", "noop", 1):
        took: list[float] = json.loads(await stage.run("latency", size))
    results.add("latency.low.p50", "ms", percentile(took, 0.50), stage.peer.name)
    results.add("latency.low.p99", "ms", percentile(took, 0.99), stage.peer.name)


async def _publish(results: Results, stage: Stage, size: int) -> None:
    port = free_port()
    url, host = f"http://127.0.0.1:{port}", f"127.0.0.1:{port}"

    def single(n: int) -> bytes:
        return post("/v1/events", host, "none", "application/json", orjson.dumps(event()))

    with stage.running("serve", port):
        await until(lambda: listens(port))
        await Load(500, 32, single).run(url)
        took = await Load(size, 32, single).run(url)
        results.add("publish.http.single", "events/s", size / took, stage.peer.name)
        body = orjson.dumps([event() for _ in range(500)])
        ready = [post("/v1/batches", host, "none", "application/json", body)] * max(4, size // 250)
        took = await Load(len(ready), 4, ready.__getitem__).run(url)
        results.add("publish.http.batch", "events/s", len(ready) * 500 / took, stage.peer.name)
