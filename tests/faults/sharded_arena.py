"""The mesh of a scenario in several shards: on a real Redis Cluster, on servers of their own, or on one server.

With `sentinel` the first of those servers has a replica, and a Sentinel that makes it the primary. On the cluster each shard lies on a primary of its own, which has a replica: the witness of all that lasts, whoever is
killed. A role of a scenario is started once for each shard and pinned to it (MESH_SHARD), so that a kill meets one shard's
process as it would meet one of a mesh without shards; `add_groups` starts parents that serve all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
from streammesh.embedded import EmbeddedServer
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.faults.arena import NAMESPACE, ROLES, Arena, Place
from tests.faults.mix import DELIVERIES
from tests.faults.processes import Forks, Part
from tests.faults.witness import Facts, joined_facts, read_facts, stored_in
from tests.harness.cluster import Cluster
from tests.harness.sentinel import Sentinel

NODE_TIMEOUT_MS = 2_000  # after which the others agree that a primary is gone; Redis's own default is 15 s
BACKLOG = ("--repl-backlog-size", "256mb")  # so that a replica's file, the witness, is never begun anew
COPIED_SECONDS = 10  # that a replica may be behind when all is quiet
CLUSTER, SERVERS, SENTINEL, ONE = "cluster", "servers", "sentinel", "one"
OVER = (CLUSTER, SERVERS, SENTINEL, ONE)


class ShardedArena(Arena):
    """As `Arena`, in `shards` shards `over` one of the three."""

    def __init__(
        self, forks: Forks, folder: Path, seed: int, *, shards: int, over: str, fsync: str = "everysec",
        prefix: tuple[str, ...] = (), **env: str,
    ) -> None:  # fmt: skip
        super().__init__(forks, folder, seed, fsync=fsync, prefix=prefix, **env)
        self.over, self._bystander = over, self.client
        self.keys_of = [Keys(f"{NAMESPACE}.{number}") for number in range(shards)]
        options = ("--auto-aof-rewrite-percentage", "0")  # as the arena's own
        self.cluster: Cluster | None = None
        self.sentinel: Sentinel | None = None
        if over == CLUSTER:
            self.cluster = Cluster(
                folder / "redis",
                NAMESPACE,
                masters=shards,
                replicas=shards,
                node_timeout_ms=NODE_TIMEOUT_MS,
                options=(*options, *BACKLOG, "--repl-diskless-sync-delay", "0"),
                shards=[keys.namespace for keys in self.keys_of],
            )
            self.servers: list[EmbeddedServer] = self.cluster.servers
            url = self.cluster.url
        elif over in (SERVERS, SENTINEL):
            self.servers = [
                EmbeddedServer(folder / "redis" / f"shard-{number}", fsync=fsync, options=options)
                for number in range(shards)
            ]
            urls = [server.url for server in self.servers]
            if over == SENTINEL:
                first = self.servers[0]
                replica = ("--replicaof", "127.0.0.1", str(first.port), "--repl-diskless-sync-delay", "0")
                self.servers.append(
                    EmbeddedServer(
                        folder / "redis" / "replica-0", fsync=fsync, options=(*options, *BACKLOG, *replica)
                    )
                )
                self.sentinel = Sentinel(folder / "sentinel", "shard-0", first)
                urls[0] = self.sentinel.url
            url = " ".join(urls)
        else:
            self.servers, url = [self.server], self.server.url
        self.env |= {"MESH_SHARDS": str(shards), "MESH_REDIS_URL": url}
        self.settings = MeshSettings(_env_file=None, redis_url=url, shards=shards, namespace=NAMESPACE)
        self._places = [
            Place(keys, open_async(self.settings.of_shard(number), "arena"))
            for number, keys in enumerate(self.keys_of)
        ]
        self.client, self.keys = self._places[0].client, self.keys_of[0]

    @property
    def places(self) -> Sequence[Place]:
        """Where its shards lie."""
        return self._places

    async def __aexit__(self, *about: Any) -> None:
        await super().__aexit__(*about)
        await self._bystander.aclose()
        for place in self._places[1:]:
            await place.client.aclose()

    # --- the servers --------------------------------------------------------------------------

    async def server_up(self) -> float:
        """Start all of them."""
        if self.cluster is not None:
            await asyncio.to_thread(self.cluster.__enter__)
        for server in self.servers:
            if not server.running:
                await asyncio.to_thread(server.start)
            await self.forks.guard(server.pid)
        if self.sentinel is not None:
            await asyncio.to_thread(self.sentinel.start)
            await self.forks.guard(self.sentinel.pid)
            await wait_until("Sentinel knows the replica", self.may_switch, seconds=60)
        return time.time()

    async def may_switch(self) -> bool:
        """Whether Sentinel has a replica that could take over."""
        assert self.sentinel is not None
        return await asyncio.to_thread(self.sentinel.has_heir)

    async def server_down(self, *, kill: bool) -> None:
        """End all of them."""
        if self.sentinel is not None:
            await self.forks.release(self.sentinel.pid)
            await asyncio.to_thread(self.sentinel.stop)
        for server in self.servers:
            if server.running:
                await self.one_down(server, kill=kill)

    async def one_down(self, server: EmbeddedServer, *, kill: bool = True) -> float:
        """End one; answers when."""
        pid, at = server.pid, time.time()
        await asyncio.to_thread(server.stop, kill=kill)
        await self.forks.release(pid)
        return at

    async def one_up(self, server: EmbeddedServer) -> None:
        """Start one again."""
        await asyncio.to_thread(server.start)
        await self.forks.guard(server.pid)

    def heir(self, shard: int) -> EmbeddedServer:
        """The replica of a shard's first primary."""
        return self.servers[len(self.keys_of) + shard]

    def owner(self, shard: int) -> EmbeddedServer:
        """Who serves a shard now."""
        if self.cluster is not None:
            return self.cluster.owner(self.cluster.slots[shard])
        if self.sentinel is not None and shard == 0:
            with self.sentinel.client() as client:
                found: Any = client.execute_command(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.sentinel.service
                )
            return next(server for server in self.servers if server.port == int(found[1]))
        return self.servers[shard]

    # --- the parts ----------------------------------------------------------------------------

    async def add(
        self, role: str, count: int = 1, *, argv: Sequence[str] = (), module: str | None = None, **env: str
    ) -> list[Part]:
        """Start `count` processes of a role for each shard. Beat and API serve the whole mesh."""
        if role not in ROLES or env.get("MESH_SHARD") == "":
            return await super().add(role, count, argv=argv, module=module, **env)
        added = []
        for shard in map(str, range(len(self.keys_of))):
            added += await super().add(role, count, argv=argv, module=module, **{**env, "MESH_SHARD": shard})
        return added

    async def add_groups(self, role: str, count: int = 1, **env: str) -> list[Part]:
        """Start parents, each of which serves all shards by children."""
        return await super().add(role, count, **env)

    # --- the end ------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """What took effect in any shard: where there are replicas, as these wrote it down. A moved slot leaves parts in
        several files.
        """
        for number in range(len(self.keys_of)):
            self._wait_for_copy(number)
        found = [
            read_facts(server.folder, keys, DELIVERIES, since_sync=is_replica, shard=number)
            for number, keys in enumerate(self.keys_of)
            for server, is_replica in self._witnesses
        ]
        return joined_facts(found, len(self.keys_of))

    def stored(self, domain: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The events of a domain that were ever stored, each with its time in ms."""
        for keys in self.keys_of:
            for server, is_replica in self._witnesses:
                yield from stored_in(server.folder, keys, domain, since_sync=is_replica)

    @property
    def _witnesses(self) -> list[tuple[EmbeddedServer, bool]]:
        """The servers whose files have all that lasts, and whether each began as a replica."""
        replicas = [(server, True) for server in self.servers[len(self.keys_of) :]]
        if self.over == SENTINEL:
            return [*replicas, *((server, False) for server in self.servers[1 : len(self.keys_of)])]
        return replicas or [(server, False) for server in self.servers]

    def _wait_for_copy(self, shard: int) -> None:
        """Wait until a shard's replica has what its primary has."""
        if self.over != CLUSTER and (self.over != SENTINEL or shard):
            return
        with redis.Redis(port=self.owner(shard).port) as node:
            wanted = _info(node)["master_repl_offset"]
        deadline = time.monotonic() + COPIED_SECONDS
        with redis.Redis(port=self.heir(shard).port) as node:
            while time.monotonic() < deadline:
                found = _info(node)
                if found["role"] == "master" or found["slave_repl_offset"] >= wanted:
                    return
                time.sleep(0.05)


def _info(node: redis.Redis) -> dict[str, Any]:
    found: Any = node.info("replication")
    return dict(found)
