"""The drill: a mesh with work in it, the page's commands, the same mesh again."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import redis
from streammesh.embedded import find_server, free_port
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.harness.processes import ROOT, MeshProcess

PAGE = ROOT / "docs" / "backup.md"
NAMESPACE = "drill"
EVENTS = 50


def blocks(page: str) -> Mapping[str, str]:
    """The command blocks of the page, by the name in the comment above each."""
    return dict(re.findall(r"<!-- drill: (\w+) -->\n```sh\n(.*?)```", page, re.DOTALL))


class Drill:
    """One play in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.data, self.backup, self.programs = folder / "redis", folder / "backup", folder / "bin"
        for made in (self.data, self.programs):
            made.mkdir(parents=True)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program(
            "redis-server", f'exec {find_server()} "$@" --bind 127.0.0.1 --maxmemory-policy noeviction'
        )
        if not shutil.which("redis-cli"):
            self._program(
                "redis-cli", f'exec {sys.executable} -P {ROOT}/tests/restore_drill/redis_cli.py "$@"'
            )
        self.settings = MeshSettings(_env_file=None, redis_url=self.url, namespace=NAMESPACE, lease="2s")
        self.env = {
            "MESH_REDIS_URL": self.url,
            "MESH_NAMESPACE": NAMESPACE,
            "MESH_LEASE": "2s",
            "PROBE_RECORD": str(folder / "record.txt"),
        }

    def _program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def sh(self, text: str) -> str:
        """Run commands as somebody at a shell would, stopping at the first that fails; answers what they said."""
        env = {
            **os.environ,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "REDIS_URL": self.url,
            "REDIS_PORT": str(self.port),
            "REDIS_DIR": str(self.data),
            "BACKUP": str(self.backup),
        }
        done = subprocess.run(
            ["/bin/sh", "-c", f"set -u\n{text}"],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"these commands failed:\n{text}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start(self) -> None:
        """A server as the mesh has it."""
        self.sh(
            'redis-server --dir "$REDIS_DIR" --port "$REDIS_PORT" --appendonly yes --save "" --daemonize yes'
        )
        self.up()

    def up(self) -> None:
        """Wait for it."""
        deadline = time.monotonic() + 15
        while True:
            try:
                with redis.Redis(port=self.port) as client:
                    client.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """End whatever serves there."""
        try:
            with redis.Redis(port=self.port) as client:
                client.shutdown(nosave=True)
        except redis.RedisError:
            return

    def contents(self) -> dict[str, str]:
        """Every key of the mesh that lasts, with its type."""
        with redis.Redis(port=self.port, decode_responses=True) as client:
            return {
                key: client.type(key) for key in sorted(client.scan_iter(count=1000)) if "alive:" not in key
            }

    async def fill(self) -> None:
        """Events whose tasks wait in a queue: a dispatcher and a worker were there, and the worker has gone."""
        client, keys = open_async(self.settings, "drill"), Keys(NAMESPACE)
        try:
            with MeshProcess("dispatcher", "services.dispatcher", self.env, self.folder):
                with MeshProcess("probe", "tests.probe", self.env, self.folder):

                    async def joined() -> bool:
                        return bool(await client.hexists(keys.manifests(), "probe"))

                    await wait_until("the worker has joined", joined, seconds=30)
                publisher = Publisher(client, keys, self.settings, "drill")
                for n in range(EVENTS):
                    await publisher.publish("probe.recorded", {"n": n}, id=f"event-{n}")

                async def queued() -> bool:
                    return bool(await client.xlen(keys.queue("probe")) == EVENTS)

                await wait_until("all tasks are queued", queued, seconds=30)
        finally:
            await client.aclose()

    async def work_off(self) -> int:
        """Have the restored mesh do what waits; answers how many events have ended."""
        client, keys = open_async(self.settings, "drill"), Keys(NAMESPACE)
        try:
            with (
                MeshProcess("dispatcher", "services.dispatcher", self.env, self.folder),
                MeshProcess("probe", "tests.probe", self.env, self.folder),
            ):

                async def done() -> bool:
                    return not await client.xlen(keys.queue("probe"))

                await wait_until("all tasks have ended", done, seconds=30)
            return len(set(Path(self.env["PROBE_RECORD"]).read_text().split("\n")) - {""})
        finally:
            await client.aclose()

    def play(self) -> list[str]:
        """Play all of it; answers sentences about what was seen. Raises AssertionError where the page is wrong."""
        steps = blocks(PAGE.read_text("utf-8"))
        assert list(steps) == ["take", "restore", "start"], list(steps)
        try:
            self.start()
            asyncio.run(self.fill())
            before = self.contents()
            self.sh(steps["take"])
            with redis.Redis(port=self.port) as client:
                client.set("after the backup", "is lost")
            self._lose()
            self._naive()
            self.sh(steps["restore"])
            said = self.sh(steps["start"])
            assert self.contents() == before, (
                "the restored mesh has other keys than the one that was backed up"
            )
            assert said.split()[-1] != "0", said
            self._lose_process()
            self.start()  # and its append-only file is a whole one
            assert self.contents() == before, "after another restart keys are missing"
            ended = asyncio.run(self.work_off())
            assert ended == EVENTS, f"{ended} of {EVENTS} tasks ran after the restore"
        finally:
            self.stop()
        return [
            f"{len(before)} keys were backed up and restored",
            "started with appendonly yes at once, the server is empty, as the page says",
            f"{ended} of {EVENTS} queued tasks ran after the restore",
        ]

    def _lose(self) -> None:
        self._lose_process()
        shutil.rmtree(self.data)
        self.data.mkdir()

    def _lose_process(self) -> None:
        self.stop()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with redis.Redis(port=self.port) as client:
                    client.ping()
            except redis.ConnectionError:
                return
            except redis.RedisError:
                pass
            time.sleep(0.02)

    def _naive(self) -> None:
        """What the page warns of is true."""
        [snapshot] = self.backup.glob("*.rdb")
        shutil.copy(snapshot, self.data / "dump.rdb")
        self.start()
        assert self.contents() == {}, (
            "a server with appendonly yes reads a snapshot: the page's warning is wrong"
        )
        self._lose()
