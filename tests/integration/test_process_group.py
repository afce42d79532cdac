"""Several processes of one service under one parent, which starts those again that die and answers for all."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from streammesh.embedded import free_port
from streammesh.status.snapshot import read_snapshot
from streammesh.testing.conditions import wait_until

from tests.harness.processes import MeshProcess
from tests.integration.test_cancel import task_of

SERVICES: list[str] = []
LONGEST = 40


class Group:
    """The parent's process, and what it says of its children."""

    def __init__(self, mesh, name: str, **env: str) -> None:
        self.port = free_port()
        env = {
            **mesh.env,
            "MESH_PROCESSES": "2",
            "PROBE_POOL": "threads",
            "MESH_HEALTH_PORT": str(self.port),
            **env,
        }
        self.process = MeshProcess(name, "tests.probe_sync", env, mesh.folder)

    def __enter__(self) -> Group:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()

    def health(self, path: str) -> tuple[int, dict[str, str]]:
        """Return the status code of its health port, and what it says of each process."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                code, said = answer.status, json.load(answer)
        except HTTPError as error:
            code, said = error.code, json.load(error)
        except OSError:
            return 0, {}
        return code, {name: part["detail"] for name, part in said["parts"].items()}

    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    async def ready(self) -> None:
        async def asked() -> bool:
            return self.health("/readyz")[0] == 200

        await wait_until("all of its processes are ready", asked, seconds=LONGEST)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Its log's lines of one event."""
        lines = [json.loads(one) for one in self.process.log.read_text().splitlines() if one.startswith("{")]
        return [one for one in lines if one["event"] == event]

    def children(self) -> dict[int, int]:
        """The process ids of those that were started last, by their numbers."""
        return {one["process"]: one["pid"] for one in self.lines("process.started")}


async def names_alive(ask) -> list[str]:
    found = await ask.redis.zrange(ask.mesh.keys.alive("probe_sync"), 0, -1)
    return sorted(name.decode() for name in found)


def runs_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_its_processes_share_the_work_are_named_mended_and_drain_together(ask):
    with Group(ask.mesh, "sharing", MESH_CONCURRENCY="4") as group:
        await group.ready()
        children = group.children()
        assert sorted(children) == [1, 2]

        async def both_show_life() -> bool:
            return len(await names_alive(ask)) == 2

        await wait_until("both show life", both_show_life)
        alive = [name.partition("/")[2] for name in await names_alive(ask)]
        assert alive == [f"{number}:{pid}" for number, pid in sorted(children.items())]
        [told] = [
            one
            for one in (await read_snapshot(ask.redis, ask.mesh.keys, ask.mesh.settings)).services
            if one.service == "probe_sync"
        ]
        assert [name.partition("/")[2] for name in told.processes] == alive
        ids = [await ask.publish("sync.slow", {"seconds": 1}) for _ in range(8)]
        tasks = [task for event_id in ids for task in await ask.ended(event_id)]
        assert {(task.state, task.attempt) for task in tasks} == {("succeeded", 1)}
        assert {line["process"] for line in group.lines("task.succeeded")} == {1, 2}
        measured = group.metrics()
        assert all(f'process_cpu_seconds_total{{process="{number}"}}' in measured for number in (1, 2))

        os.kill(children[2], signal.SIGKILL)

        async def said() -> bool:
            code, parts = group.health("/readyz")
            return code == 503 and parts["process 1"] == "works" and parts["process 2"] != "works"

        await wait_until("it says that one is away", said)
        assert group.health("/livez")[0] == 200
        await group.ready()
        assert group.lines("process.ended")[0]["code"] == -signal.SIGKILL
        children, before = group.children(), children
        assert (children[1] == before[1], children[2] != before[2]) == (True, True)

        last = await ask.publish("sync.slow", {"seconds": 1})
        await task_of(ask, last, "started")
        assert group.process.stop() == 0
        assert not any(map(runs_still, children.values()))
        [task] = await ask.ended(last)
        assert (task.state, task.attempt) == ("succeeded", 1)


async def test_a_killed_parent_leaves_no_orphans_and_what_runs_is_brought_to_its_end(ask):
    with Group(ask.mesh, "orphaned") as group:
        await group.ready()
        children = group.children()
        event_id = await ask.publish("sync.slow", {"seconds": 1.5})
        await task_of(ask, event_id, "started")
        os.kill(group.process.pid, signal.SIGKILL)

        async def all_gone() -> bool:
            return not any(map(runs_still, children.values()))

        await wait_until("no child is left", all_gone, seconds=15)
        [task] = await ask.ended(event_id)
        assert (task.state, task.attempt) == ("succeeded", 1)


async def test_a_prefork_pool_goes_by_its_concurrency_alone_and_says_so(ask):
    with Group(ask.mesh, "prefork", PROBE_POOL="prefork", MESH_CONCURRENCY="1") as group:
        await group.ready()
        [line] = group.lines("processes.ignored")
        assert (line["wanted"], "MESH_CONCURRENCY" in line["reason"]) == (2, True)
        assert not group.lines("group.started")
        assert group.process.stop() == 0
