"""What is noted in each shard of which shard of which mesh it is, and whether this process's settings fit that.

A mesh of several shards is marked as it begins: the first shard first, with an id that the others take over. Once all
were found marked, and old enough to be on disk, they are noted as whole; from then on a shard without a mark has lost its
data, or is another server, and no process starts with it. Nothing else is changed here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import RedisError

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lua.services import MarkShardScript
from streammesh.redisio.inspection import ServerFinding, Severity
from streammesh.setting_kinds import each_url
from streammesh.settings import MeshSettings

ON_DISK_MS = 10_000  # a server that syncs each second has written a mark by then
Connect = Callable[[MeshSettings], redis.Redis]


@dataclass(frozen=True, slots=True)
class ShardMark:
    """What a shard says of itself; `shards` is 0 where it says nothing."""

    shards: int = 0
    shard: int = 0
    birth: str = ""
    age_ms: int = 0
    is_whole: bool = False
    moved: str = ""
    filling: str = ""

    @property
    def is_there(self) -> bool:
        """Whether it is marked."""
        return bool(self.birth)


def mark_call(
    keys: Keys, shards: int = 0, shard: int = 0, birth: str = "", *, is_whole: bool = False
) -> lua.Call[ShardMark]:
    """`mark_shard.lua`; only reads where `shards` is 0."""

    def parse(answer: list[Any]) -> ShardMark:
        of, number, id, age, whole, moved, filling = answer
        return ShardMark(
            int(of), int(number), id.decode(), int(age), bool(whole), moved.decode(), filling.decode()
        )

    return MarkShardScript(
        format=keys.format(), shards=shards, shard=shard, birth=birth, is_whole=is_whole
    ).call(parse)


class ShardMarks:
    """Reads and writes the marks for one process, over connections that `connect` makes for a shard's settings."""

    def __init__(self, settings: MeshSettings, connect: Connect) -> None:
        self._mine, self._whole, self._connect = settings, settings.whole, connect
        self._number = settings.shard or 0

    def findings(self, *, mark: bool = True) -> list[ServerFinding]:
        """What does not fit; with `mark` a mesh that begins is marked. Raises redis-py's errors for its own shard only."""
        if self._whole.shards == 1:
            return self._of_one()
        mine = self._run(self._mine, mark_call(Keys(self._mine.namespace)))
        if mine.moved or mine.filling:
            return [_moved(mine.moved) if mine.moved else _filling(mine.filling)]
        if mine.is_there and mine.shards != self._whole.shards:
            return [_other_number(self._whole.shards, mine.shards)]
        first = mine if self._number == 0 else self._asked(0)
        if mine.is_there:
            return self._beside(mine, first, mark=mark)
        return self._empty(first, mark=mark)

    def _beside(self, mine: ShardMark, first: ShardMark | None, *, mark: bool) -> list[ServerFinding]:
        """What is wrong where this shard is marked."""
        if first is None:  # it is away: said by who needs it
            return []
        if not first.is_there:
            if mine.is_whole:
                return [_is_empty(0)]
            if mark:
                first = self._marked(0, mine.birth)
        if first.birth != mine.birth:
            return [_another_mesh(self._number)]
        if mark and not mine.is_whole and mine.age_ms > ON_DISK_MS and self._all_marked(mine.birth):
            self._run(self._mine, mark_call(Keys(self._mine.namespace), birth=mine.birth, is_whole=True))
        return []

    def _empty(self, first: ShardMark | None, *, mark: bool) -> list[ServerFinding]:
        """What is wrong where this shard is not marked; where nothing is, it is marked."""
        here = [
            number
            for number in range(self._whole.shards)
            if number != self._number and self._lies_here(number)
        ]
        if here:
            return [_another_order(self._number, here)]
        if self._number == 0:
            others = [self._asked(number) for number in range(1, self._whole.shards)]
            known = [one for one in others if one is not None and one.is_there]
            if any(one.is_whole for one in known):
                return [_is_empty(0)]
            if not known and self._lies_unsharded():
                return [_other_number(self._whole.shards, 1)]
            if mark:
                self._marked(0, known[0].birth if known else secrets.token_hex(8))
            return []
        if first is None:
            return []
        if first.is_whole:
            return [_is_empty(self._number)]
        if first.is_there and first.shards != self._whole.shards:
            return [_other_number(self._whole.shards, first.shards)]
        if not first.is_there and self._lies_unsharded():
            return [_other_number(self._whole.shards, 1)]
        if mark:
            first = first if first.is_there else self._marked(0, secrets.token_hex(8))
            self._marked(self._number, first.birth)
        return []

    def _of_one(self) -> list[ServerFinding]:
        """What is wrong for a process of a mesh without shards."""
        moved = self._asked_of(self._whole)
        if moved is not None and moved.moved:
            return [_moved(moved.moved)]
        sharded = self._asked_of(self._named_first())
        return [_other_number(1, sharded.shards)] if sharded is not None and sharded.is_there else []

    def _named_first(self) -> MeshSettings:
        """The settings of the first shard that a mesh of this name would have here."""
        return self._whole.model_copy(update={"namespace": f"{self._whole.namespace}.0"})

    def accept(self) -> list[int]:
        """Mark the shards that are empty, as an operator who knows it wants; return which.

        Raises redis-py's errors, and ValueError where none is marked, or they do not belong together.
        """
        marks = {
            number: self._run(self._of(number), mark_call(Keys(self._of(number).namespace)))
            for number in range(self._whole.shards)
        }
        births = {one.birth for one in marks.values() if one.is_there}
        if len(births) != 1:
            raise ValueError(
                "no shard is marked: start the mesh" if not births else "the shards are of several meshes"
            )
        [birth] = births
        empty = [number for number, one in marks.items() if not one.is_there]
        for number in empty:
            self._marked(number, birth)
        return empty

    def all(self) -> list[ShardMark | None]:
        """What each shard says of itself; None for one that is away."""
        return [self._asked(number) for number in range(self._whole.shards)]

    def _all_marked(self, birth: str) -> bool:
        found = self.all()
        return all(one is not None and one.birth == birth and one.age_ms > ON_DISK_MS for one in found)

    def _of(self, number: int) -> MeshSettings:
        return self._whole.of_shard(number)

    def _marked(self, number: int, birth: str) -> ShardMark:
        settings = self._of(number)
        return self._run(settings, mark_call(Keys(settings.namespace), self._whole.shards, number, birth))

    def _asked(self, number: int) -> ShardMark | None:
        return self._asked_of(self._of(number))

    def _asked_of(self, settings: MeshSettings) -> ShardMark | None:
        """A mark; None where that server is away, or may not be asked by this user."""
        try:
            return self._run(settings, mark_call(Keys(settings.namespace)))
        except (RedisError, OSError):
            return None

    def _lies_here(self, number: int) -> bool:
        """Whether another shard lies on the server that should have this one."""
        if len(each_url(self._whole.redis_url)) == 1:
            return False
        here = self._mine.model_copy(update={"namespace": self._of(number).namespace})
        found = self._asked_of(here)
        return found is not None and found.is_there

    def _lies_unsharded(self) -> bool:
        """Whether a mesh of one shard has this name on the first server."""
        alone = self._of(0).model_copy(update={"namespace": self._whole.namespace})
        try:
            with self._connect(alone) as client:
                return bool(client.exists(Keys(alone.namespace).format()))
        except (RedisError, OSError):
            return False

    def _run(self, settings: MeshSettings, call: lua.Call[ShardMark]) -> ShardMark:
        with self._connect(settings) as client:
            return lua.run_sync(client, call)


def _refused(code: str, text: str, do: str) -> ServerFinding:
    return ServerFinding(code, Severity.REFUSED, text, do)


def _other_number(asked: int, found: int) -> ServerFinding:
    return _refused(
        "shards-differ",
        f"MESH_SHARDS is {asked}, and the mesh of this name has {_shards(found)}",
        f"set MESH_SHARDS={found} for every process; `streammesh reshard` moves a mesh to more shards",
    )


def _another_order(number: int, here: Sequence[int]) -> ServerFinding:
    return _refused(
        "shards-in-another-order",
        f"the server of shard {number} holds shard {', '.join(map(str, here))} of the mesh, and not shard {number}",
        "name the servers in MESH_REDIS_URL in the order in which the mesh began",
    )


def _is_empty(number: int) -> ServerFinding:
    return _refused(
        "shard-empty",
        f"shard {number} is empty, and the mesh was whole: its server has lost its data, or is another one",
        "name its server in MESH_REDIS_URL or restore its data; `streammesh shards --accept-empty` goes on without",
    )


def _another_mesh(number: int) -> ServerFinding:
    return _refused(
        "shard-of-another-mesh",
        f"shard {number} belongs to another mesh than shard 0",
        "look at MESH_REDIS_URL and MESH_NAMESPACE: every server has to be this mesh's",
    )


def _moved(where: str) -> ServerFinding:
    return _refused(
        "mesh-moved", f"this mesh has moved to {where}", f"set what belongs to {where} for every process"
    )


def _filling(mesh: str) -> ServerFinding:
    return _refused(
        "shard-filling",
        f"this mesh is being filled with {mesh}, and that has not ended",
        "wait for `streammesh reshard`, or run it again: it begins anew",
    )


def _shards(number: int) -> str:
    return "one shard" if number == 1 else f"{number} shards"
