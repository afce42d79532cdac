"""`make scale`: a million kept events and much else; every call, command and role, and what Redis found slow.

Exit code 1 where a question of the API takes longer than 100 ms (the quickest of five), the dashboard's first paint in a real
Chromium longer than 300 ms, or a command of Redis longer than 25 ms, five times at least: once or twice is a pause of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import redis.asyncio
from streammesh import lua
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.keys import Keys
from streammesh.lua.script import script
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.scale import paint
from tests.scale.contents import Sizes, fill

SLOW_MS = 25.0
REQUEST_MS = 100.0
KEY = "scale-admin-key-of-thirty-letters"
LOOKS = 5
AGAIN = 5  # times that a command has to be slow to be called so
# What the dashboard asks first, page by page; then what else there is to ask.
FIRST_PAINT = ("/ui/", "/v1/key", "/v1/status", "/v1/events?limit=100&standing=true")
QUESTIONS = (
    *("/v1/services", "/v1/services/svc7", "/v1/manifests", "/v1/subscriptions", "/v1/types"),
    *(
        "/v1/tasks?limit=100",
        "/v1/tasks?order=oldest&limit=100",
        "/v1/tasks?state=ended",
        "/v1/tasks?service=svc7",
    ),
    *("/v1/dead-letters?limit=100", "/v1/dead-letters?service=svc1&limit=100", "/v1/failures?service=svc7"),
    *(
        "/v1/events?subject=customer%2F42&limit=50",
        "/v1/events?type=order.s0&limit=50",
        "/v1/events/kept5000",
    ),
    *("/v1/schedules/s77", "/v1/audit", "/v1/webhooks"),
)
# Lists of everything there is, which are as long as they are; failures looks through thousands of letters.
WHOLE = frozenset(("/v1/schedules", "/v1/manifests", "/v1/failures", "/v1/types", "/v1/subscriptions"))
COMMANDS = (
    "status",
    "services list",
    "top --count 1",
    "doctor",
    "tasks --oldest",
    "dead list",
    "failures",
    "schedules list",
)


class Table:
    """What was measured, and what of it is wrong."""

    def __init__(self) -> None:
        self.rows: dict[str, float] = {}
        self.wrong: list[str] = []

    def add(self, name: str, ms: float, limit: float | None = None) -> None:
        """Note a time."""
        self.rows[name] = round(ms, 1)
        too_long = limit is not None and ms > limit
        print(f"{ms:>10,.1f} ms  {name}{'  TOO LONG' if too_long else ''}", flush=True)
        if too_long:
            self.wrong.append(f"{name} took {ms:.0f} ms")


async def play(folder: Path, sizes: Sizes, table: Table) -> None:
    """Fill, ask, act, look at the slow log."""
    keys, options = (
        Keys(),
        ("--slowlog-log-slower-than", str(int(SLOW_MS * 1000)), "--slowlog-max-len", "4096"),
    )
    with EmbeddedServer(folder / "redis", options=options) as server:
        client = redis.asyncio.Redis.from_url(server.url)
        settings = MeshSettings(_env_file=None, redis_url=server.url)
        began = time.monotonic()
        await fill(
            client,
            keys,
            settings,
            sizes,
            lambda text: print(f"{time.monotonic() - began:8.0f} s  {text}", flush=True),
        )
        memory = (await client.info("memory"))["used_memory"]
        print(f"Redis has {memory / 1e6:,.0f} MB", flush=True)
        await client.slowlog_reset()
        port = free_port()
        env = {
            "MESH_REDIS_URL": server.url,
            "MESH_LOG_FORMAT": "json",
            "API_PORT": str(port),
            "API_ADMIN_KEY": KEY,
            "REPORT_STORE_URL": str(folder / "store"),
            "PROBE_RECORD": str(folder / "record.txt"),
            "DISPATCHER_TRIM_EVERY": "2s",
            "STREAMMESH_URL": f"http://127.0.0.1:{port}",
            "STREAMMESH_KEY": KEY,
        }
        modules = ("services.dispatcher", "services.api", "services.scheduler", "tests.probe")
        processes = {name: MeshProcess(name, name, env, folder).start() for name in modules}
        try:
            headers = {"authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(base_url=env["STREAMMESH_URL"], headers=headers, timeout=60) as http:
                await _ready(http, client, keys)
                await _ask(http, table)
                await paint.measure(env["STREAMMESH_URL"], KEY, table)
                await _work(http, table)
                await _command_line(env, table)
                await _act(http, table)
                await _trim(processes["services.dispatcher"], env, folder, client, keys, sizes, table)
                await _slow(client, table)
        finally:
            for process in processes.values():
                process.stop()
            await client.aclose()


async def _ready(http: httpx.AsyncClient, client: redis.asyncio.Redis, keys: Keys) -> None:
    async def answers() -> bool:
        try:
            ready = (await http.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False
        return ready and bool(await client.zcard(keys.alive("probe")))

    await wait_until("the mesh is there", answers, seconds=120)
    await asyncio.sleep(5)  # what is done once at start is done


async def _ask(http: httpx.AsyncClient, table: Table) -> None:
    for path in (*FIRST_PAINT, *QUESTIONS, "/v1/schedules", "/v1/failures"):
        took = []
        for _ in range(LOOKS):
            if path.startswith(("/v1/status", "/v1/services")):
                await asyncio.sleep(1.1)  # one look serves all who ask within a second
            began = time.perf_counter()
            answer = await http.get(path)
            took.append((time.perf_counter() - began) * 1000)
            if answer.status_code != 200:
                table.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")
                break
        limit = None if path.partition("?")[0] in WHOLE else REQUEST_MS
        table.add(f"GET {path} ({len(answer.content) / 1000:,.0f} KB)", min(took), limit)


async def _work(http: httpx.AsyncClient, table: Table) -> None:
    """Publish, and wait for the end, beside all of it."""
    took = []
    for n in range(50):
        began = time.perf_counter()
        answer = await http.post("/v1/events?wait=10s", json={"type": "probe.noop", "data": {"n": n}})
        took.append((time.perf_counter() - began) * 1000)
        if answer.status_code != 200:
            table.wrong.append(f"an event did not end: {answer.text[:200]}")
            return
    table.add("an event from its publication to its end", min(took), REQUEST_MS)


async def _command_line(env: dict[str, str], table: Table) -> None:
    for words in COMMANDS:
        began = time.perf_counter()
        command = [sys.executable, "-m", "streammesh.cli", *words.split()]
        given = {**env, "PATH": "/usr/bin:/bin"}
        done = await asyncio.to_thread(
            subprocess.run, command, env=given, capture_output=True, text=True, check=False
        )
        table.add(f"streammesh {words}", (time.perf_counter() - began) * 1000)
        if done.returncode not in (0, 4, 5):
            table.wrong.append(f"streammesh {words}: {done.returncode} {done.stderr[-200:]}")


async def _act(http: httpx.AsyncClient, table: Table) -> None:
    calls: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/v1/dead-letters/replay", {"filter": {"service": "svc5"}, "limit": 500}),
        ("POST", "/v1/dead-letters/drop", {"filter": {"service": "svc1"}, "limit": 5_000}),
        ("POST", "/v1/subscriptions/svc9.handle/pause", {"reason": "tried"}),
        ("POST", "/v1/subscriptions/svc9.handle/resume", None),
        ("POST", "/v1/schedules/s5/disable", None),
        ("DELETE", "/v1/services/svc8?backlog=drop", None),
        ("DELETE", "/v1/services/svc10", None),
    )
    for method, path, body in calls:
        began = time.perf_counter()
        answer = (
            await http.request(method, path, json=body)
            if body is not None
            else await http.request(method, path)
        )
        table.add(f"{method} {path}", (time.perf_counter() - began) * 1000)
        if answer.status_code >= 300:
            table.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")


async def _trim(
    dispatcher: MeshProcess,
    env: dict[str, str],
    folder: Path,
    client: redis.asyncio.Redis,
    keys: Keys,
    sizes: Sizes,
    table: Table,
) -> None:
    """All that is kept becomes too old at once."""
    dispatcher.stop()
    stream, began = keys.events("order"), time.perf_counter()
    short = {**env, "MESH_RETENTION": "1s", "MESH_RESULT_TTL": "1s", "MESH_DEDUP_WINDOW": "1s"}
    with MeshProcess("trimming", "services.dispatcher", short, folder):

        async def gone() -> bool:
            return int(await client.xlen(stream)) < sizes.events // 20

        try:
            await wait_until("the stream is short", gone, seconds=120)
        except Exception as error:  # it is told with the rest
            table.wrong.append(
                f"trimming did not come to its end, {await client.xlen(stream):,} are left: {error}"
            )
    table.add("trimming all that is kept", (time.perf_counter() - began) * 1000)


async def _slow(client: redis.asyncio.Redis, table: Table) -> None:
    names = {script(name).sha: name for name in _scripts()}
    found: Counter[str] = Counter()
    longest: dict[str, float] = {}
    for entry in await client.slowlog_get(4_096):
        words = entry["command"].decode("utf-8", "replace").split(" ")
        name = (
            words[0] if words[0] not in ("EVALSHA", "EVAL") else names.get(words[1], " ".join(words[:3])[:80])
        )
        told = name if name != words[0] else " ".join(words[:2])[:80]
        found[told] += 1
        longest[told] = max(longest.get(told, 0.0), entry["duration"] / 1000)
    for told, count in found.most_common():
        print(f"{longest[told]:>10,.1f} ms  SLOW: {told}, {count} times", flush=True)
        if count < AGAIN:  # a pause of the machine, as it meets any command
            continue
        table.wrong.append(f"Redis took {longest[told]:.0f} ms for {told}, {count} times")


def _scripts() -> Iterable[str]:
    folder = resources.files(lua)
    return [one.name[:-4] for one in folder.iterdir() if re.fullmatch(r"[a-z].*\.lua", one.name)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument(
        "--share", type=float, default=1.0, help="of a million events and of all else (default 1)"
    )
    parser.add_argument(
        "--json", type=Path, default=Path("var/scale/latest.json"), help="where to write what was measured"
    )
    chosen = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(play(Path(name), Sizes().scaled(chosen.share), table))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps({"ms": table.rows, "wrong": table.wrong}, indent=1))
    for text in table.wrong:
        print(f"wrong: {text}")
    sys.exit(1 if table.wrong else 0)


if __name__ == "__main__":
    main()
