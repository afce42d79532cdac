"""A real Redis Cluster on this machine: masters that share the slots, and replicas of one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.crc import key_slot
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.keys import Keys

SLOTS = 16_384
START_SECONDS = 30


class Cluster:
    """`masters` masters; the owner of the mesh's slot has `replicas` replicas."""

    def __init__(
        self,
        folder: Path,
        namespace: str,
        *,
        masters: int = 3,
        replicas: int = 1,
        node_timeout_ms: int = 1_000,
        options: Sequence[str] = (),
        password: str = "",
    ) -> None:
        self.slot = int(key_slot(Keys(namespace).prefix.encode()))
        self.password = password
        self._masters, self._replicas = masters, replicas
        secret = ("--requirepass", password, "--masterauth", password) if password else ()
        self.buses = [free_port() for _ in range(masters + replicas)]
        self.servers = [
            EmbeddedServer(
                folder / f"node-{number}",
                options=(
                    *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
                    *("--cluster-node-timeout", str(node_timeout_ms), "--cluster-port", str(bus)),
                    *("--cluster-replica-validity-factor", "0"),
                    *secret,
                    *options,
                ),
                password=password,
            )
            for number, bus in enumerate(self.buses)
        ]

    @property
    def url(self) -> str:
        """The mesh's URL for it."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{f':{self.password}@' if self.password else ''}{hosts}"

    def client(self, server: EmbeddedServer) -> redis.Redis:
        """A plain client of one node."""
        return redis.Redis(port=server.port, password=self.password or None, socket_timeout=5)

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        try:
            self._join()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self.servers:
            server.stop(kill=True)

    def _join(self) -> None:
        share = SLOTS // self._masters
        for number, server in enumerate(self.servers):
            with self.client(server) as node:
                node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < self._masters:
                    last = SLOTS - 1 if number == self._masters - 1 else (number + 1) * share - 1
                    node.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
        for server in self.servers:
            with self.client(server) as node:
                for other, bus in zip(self.servers, self.buses, strict=True):
                    node.execute_command("CLUSTER MEET", "127.0.0.1", other.port, bus)
        self._wait(
            "every node knows every other",
            lambda: all(len(self._nodes(s)) == len(self.servers) for s in self.servers),
        )
        owner = self.owner()
        for server in self.servers[self._masters :]:
            with self.client(server) as node:
                node.execute_command("CLUSTER REPLICATE", self.id_of(owner))
        self._wait("the cluster is whole", self._is_whole)

    def _nodes(self, server: EmbeddedServer) -> list[str]:
        return [line for line in self._told(server, "CLUSTER NODES").splitlines() if "handshake" not in line]

    def _told(self, server: EmbeddedServer, command: str) -> str:
        with self.client(server) as node:
            node.response_callbacks.clear()  # redis-py would take the text apart
            answer: Any = node.execute_command(command)
            return bytes(answer).decode()

    def _is_whole(self) -> bool:
        for server in self.servers:
            if "cluster_state:ok" not in self._told(server, "CLUSTER INFO"):
                return False
        for server in self.servers[self._masters :]:
            with self.client(server) as node:
                found: Any = node.info("replication")
            if found.get("master_link_status") != "up":
                return False
        return True

    def _wait(self, what: str, holds: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {seconds} s it is not so that {what}")
            time.sleep(0.05)

    def id_of(self, server: EmbeddedServer) -> str:
        """The node's name in the cluster."""
        return self._told(server, "CLUSTER MYID")

    def owner(self) -> EmbeddedServer:
        """Who serves the mesh's slot, as the nodes that run say."""
        for server in self.servers:
            try:
                lines = self._nodes(server)
            except (redis.RedisError, OSError):
                continue
            for line in lines:
                words = line.split()
                if "master" not in words[2] or "fail" in words[2]:
                    continue
                for part in words[8:]:
                    first, _, last = part.partition("-")
                    if first.isdigit() and int(first) <= self.slot <= int(last or first):
                        port = int(words[1].partition("@")[0].rpartition(":")[2])
                        return next(found for found in self.servers if found.port == port)
        raise LookupError("nobody owns the mesh's slot")

    def move_slot(self, to: EmbeddedServer, count: int = 10_000) -> None:
        """Move the mesh's slot to another master, as a reshard does."""
        source = self.owner()
        target_id, source_id = self.id_of(to), self.id_of(source)
        with self.client(source) as old, self.client(to) as new:
            new.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", source_id)
            old.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", target_id)
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", self.slot, count):
                secret = ("AUTH", self.password) if self.password else ()
                old.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, *secret, "KEYS", *keys)
            for node in (new, old):
                node.execute_command("CLUSTER SETSLOT", self.slot, "NODE", target_id)
