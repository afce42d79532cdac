"""The mesh of a scenario on a real Redis Cluster: three masters, and two replicas of the owner of its slot.

The first replica is the heir: whenever the owner is killed it succeeds, and it follows again after a hand-over, so its
append-only file has every write that took effect for good. The second is there so that a successor has a replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from streammesh.embedded import EmbeddedServer
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until

from tests.faults.arena import NAMESPACE, Arena
from tests.faults.mix import DELIVERIES
from tests.faults.processes import Forks
from tests.faults.witness import Facts, read_facts
from tests.harness.cluster import Cluster

NODE_TIMEOUT_MS = 2_000  # after which the others agree that a master is gone; Redis's own default is 15 s
MASTERS = 3


class ClusterArena(Arena):
    """As `Arena`; `owner_down` and `hand_over` are its troubles."""

    def __init__(self, forks: Forks, folder: Path, seed: int, **env: Any) -> None:
        super().__init__(forks, folder, seed, **env)
        self.cluster = Cluster(
            folder / "redis",
            NAMESPACE,
            masters=MASTERS,
            replicas=2,
            node_timeout_ms=NODE_TIMEOUT_MS,
            # The heir's file begins with its first synchronisation and must not be rewritten, nor interrupted.
            options=("--auto-aof-rewrite-percentage", "0", "--repl-backlog-size", "256mb"),
        )
        self.env["MESH_REDIS_URL"] = self.cluster.url
        settings = MeshSettings(_env_file=None, redis_url=self.cluster.url, namespace=NAMESPACE)
        self.client = open_async(settings, "arena")

    @property
    def bystander(self) -> EmbeddedServer:
        """The replica that stays one."""
        return self.cluster.servers[-1]

    @property
    def heir(self) -> EmbeddedServer:
        """The replica that succeeds whoever is killed, and so is a witness of all that lasts."""
        return self.cluster.servers[MASTERS]

    async def server_up(self) -> float:
        """Start all of it."""
        await asyncio.to_thread(self.cluster.__enter__)
        with self.cluster.client(self.bystander) as node:
            node.config_set("cluster-replica-no-failover", "yes")
        for server in self.cluster.servers:
            await self.forks.guard(server.pid)
        return time.time()

    async def server_down(self, *, kill: bool) -> None:
        """End all of it."""
        pids = [server.pid for server in self.cluster.servers if server.running]
        await asyncio.to_thread(self.cluster.__exit__, None, None, None)
        for pid in pids:
            await self.forks.release(pid)

    async def owner_down(self) -> tuple[EmbeddedServer, float]:
        """SIGKILL the owner of the mesh's slot; answers it, and when."""
        owner = await asyncio.to_thread(self.cluster.owner)
        pid, at = owner.pid, time.time()
        await asyncio.to_thread(owner.stop, kill=True)
        await self.forks.release(pid)
        return owner, at

    async def owner_back(self, server: EmbeddedServer) -> None:
        """Start it again: it follows its successor."""
        await asyncio.to_thread(server.start)
        await self.forks.guard(server.pid)

    async def hand_over(self) -> float:
        """Have the owner hand its slot over to its replica, as for maintenance; answers when."""

        async def found() -> EmbeddedServer | None:
            return await asyncio.to_thread(self._heir)

        heir = await wait_until("the owner has a replica that may follow it", found, seconds=60)
        assert heir is not None
        with self.cluster.client(heir) as node:
            node.execute_command("CLUSTER FAILOVER")
        return time.time()

    def _heir(self) -> EmbeddedServer | None:
        owner = self.cluster.owner()
        for server in self.cluster.servers[:-1]:
            with contextlib.suppress(RedisError, OSError), self.cluster.client(server) as node:
                found = node.info("replication")
                if (
                    found["role"] == "slave"
                    and found["master_port"] == owner.port
                    and found["master_link_status"] == "up"
                ):
                    return server
        return None

    def facts(self) -> Facts:
        """What took effect, from the heir's file."""
        return read_facts(self.heir.folder, self.keys, DELIVERIES, since_sync=True)
