"""A real Redis Cluster on this machine: masters that share the slots, and replicas of one or of each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.crc import key_slot
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.keys import Keys

SLOTS = 16_384
START_SECONDS = 30


def slot_of(namespace: str) -> int:
    """The slot in which all keys of a namespace lie."""
    return int(key_slot(Keys(namespace).prefix.encode()))


class Cluster:
    """`masters` masters; the owner of the mesh's slot has `replicas` replicas.

    Of a mesh of several shards `shards` are the namespaces: each lies on a master of its own, which has a replica.
    """

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
        shards: Sequence[str] = (),
    ) -> None:
        self.slots = [slot_of(name) for name in shards or (namespace,)]
        self.slot, self._are_shards = self.slots[0], bool(shards)
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
                    *("--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no"),
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
        ranges = self._ranges()
        for number, server in enumerate(self.servers):
            with self.client(server) as node:
                node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < self._masters:
                    node.execute_command("CLUSTER ADDSLOTSRANGE", *ranges[number])
        for server in self.servers:
            with self.client(server) as node:
                for other, bus in zip(self.servers, self.buses, strict=True):
                    node.execute_command("CLUSTER MEET", "127.0.0.1", other.port, bus)
        self._wait(
            "every node knows every other",
            lambda: all(len(self._nodes(s)) == len(self.servers) for s in self.servers),
        )
        for number, server in enumerate(self.servers[self._masters :]):
            owner = self.owner(self.slots[number] if self._are_shards else None)
            with self.client(server) as node:
                node.execute_command("CLUSTER REPLICATE", self.id_of(owner))
        self._wait("the cluster is whole", self._is_whole)

    def _ranges(self) -> list[tuple[int, int]]:
        """The slots of each master: equal shares, or, of shards, one shard's slot for each."""
        ends = [(number + 1) * (SLOTS // self._masters) - 1 for number in range(self._masters)]
        if self._are_shards:
            placed = sorted(self.slots)
            ends = [(low + high) // 2 for low, high in pairwise(placed)] + [SLOTS - 1]
        ends[-1] = SLOTS - 1
        return list(zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True))

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

    def owner(self, slot: int | None = None) -> EmbeddedServer:
        """Who serves a slot, the mesh's if none is named, as the nodes that run say."""
        slot = self.slot if slot is None else slot
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
                    if first.isdigit() and int(first) <= slot <= int(last or first):
                        port = int(words[1].partition("@")[0].rpartition(":")[2])
                        return next(found for found in self.servers if found.port == port)
        raise LookupError(f"nobody owns slot {slot}")

    def move_slot(self, to: EmbeddedServer, count: int = 10_000, slot: int | None = None) -> None:
        """Move a slot, the mesh's if none is named, to another master, as a reshard does, `count` keys at a time."""
        slot = self.slot if slot is None else slot
        source = self.owner(slot)
        target_id, source_id = self.id_of(to), self.id_of(source)
        with self.client(source) as old, self.client(to) as new:
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", slot, count):
                secret = ("AUTH", self.password) if self.password else ()
                old.execute_command("MIGRATE", "127.0.0.1", to.port, "", 0, 5_000, *secret, "KEYS", *keys)
            for node in (new, old):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)
