"""Copies a mesh that stands still into more shards.

What lies in a shard goes whole into the new shard of the same number, streams, groups, records and what waits for its time
included; so nothing is taken apart, and nothing is looked at that is not understood. What is published from then on is
spread over all shards. That it is not taken for new, each new shard is told of the events that it would be asked to
store again.

It may be killed at any time and run again. Nobody starts in the new mesh before it is filled, nor in the old one
afterwards; each run clears what a broken one left and copies all of it anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from streammesh import lua, plain_json
from streammesh.errors import InvalidManifest, MeshError
from streammesh.keys import Keys
from streammesh.lua.services import NoteMoveScript
from streammesh.redisio.answers import there
from streammesh.redisio.shard_marks import ShardMarks
from streammesh.reshard.copies import answered, copy_page, copy_webhooks, rename_queues
from streammesh.reshard.survey import Connect, living, pages, word_of
from streammesh.settings import MeshSettings
from streammesh.shards import PARTITION_KEY, each_shard, shard_of
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import register_call

NOT_COPIED = {"format", "alive", "editions", "memory"}  # of the processes and the server that were
EVERYWHERE = ("paused", "url-workers")  # each shard has all of it, as it is
ELSEWHERE = "elsewhere:"  # before the source, in the row of an event that lies in another shard


class CannotMove(MeshError):
    """The mesh that is to be filled is not empty, or the one that moves did not stand still."""


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """How far it is."""

    step: str
    shard: int
    done: int


class Reshard:
    """One move; `say` is told how far it is."""

    def __init__(
        self,
        source: MeshSettings,
        target: MeshSettings,
        connect: Connect,
        say: Callable[[MoveProgress], None],
    ) -> None:
        self._source, self._target, self._connect, self._say = source, target, connect, say
        self._old, self._new = each_shard(source), each_shard(target)
        self._where = f"{target.namespace} ({target.shards} shards)"
        self._from = f"{source.namespace} ({source.shards} shards)"

    def run(self) -> int:
        """Do it; answers how many keys were copied. Raises CannotMove, and redis-py's errors."""
        if self._is_filled():
            self._note_all(self._new, "filled", self._from)
            return 0
        birth = secrets.token_hex(8)
        for number, shard in enumerate(self._new):
            self._clear(shard, number, birth)
        copied = sum(self._copy(number) for number in range(len(self._old)))
        for number in range(len(self._new)):
            self._tell(number)
        for number in range(len(self._old), len(self._new)):
            self._furnish(number)
        self._look_again()
        self._note_all(self._old, "moved", self._where)
        self._note_all(self._new, "filled", self._from)
        return copied

    # --- what is noted ------------------------------------------------------------------------

    def _is_filled(self) -> bool:
        """Whether all was copied before, so that only notes may be missing. Raises CannotMove where nothing is left to do."""
        old, new = (
            ShardMarks(self._source, self._connect).all(),
            ShardMarks(self._target, self._connect).all(),
        )
        moved = all(one is not None and one.moved == self._where for one in old)
        if moved and not any(one is None or one.filling for one in new):
            raise CannotMove(f"{self._from} has moved to {self._where} already")
        return moved

    def _note(self, shard: MeshSettings, number: int, step: str, mesh: str, birth: str = "") -> bool:
        call = NoteMoveScript(
            format=Keys(shard.namespace).format(), step=step, mesh=mesh, shards=self._target.shards, shard=number,
            birth=birth,
        ).call(bool)  # fmt: skip
        with self._connect(shard) as client:
            return lua.run_sync(client, call)

    def _note_all(self, shards: Sequence[MeshSettings], step: str, mesh: str) -> None:
        for number, shard in enumerate(shards):
            self._note(shard, number, step, mesh)

    def _clear(self, shard: MeshSettings, number: int, birth: str) -> None:
        """Take a new shard, and remove what a run that was killed left there. Raises CannotMove where it is in use."""
        keys = Keys(shard.namespace)
        with self._connect(shard) as client:
            format_key = keys.format().encode()
            if not client.exists(format_key) and next(pages(client, keys.prefix), None):
                raise CannotMove(f"shard {number} of {self._where} is not empty")
            if not self._note(shard, number, "filling", self._from, birth):
                raise CannotMove(f"shard {number} of {self._where} belongs to a mesh that has begun")
            for page in pages(client, keys.prefix):
                left = [name for name in page if name != format_key]
                if left:
                    client.unlink(*left)

    def _look_again(self) -> None:
        """Raise CannotMove where somebody worked in the old mesh meanwhile."""
        for number, (old, new) in enumerate(zip(self._old, self._new, strict=False)):
            keys, copies = Keys(old.namespace), Keys(new.namespace)
            with self._connect(old) as client, self._connect(new) as copy:
                alive = living(client, keys)
                if alive:
                    raise CannotMove(
                        f"processes came to shard {number}: {', '.join(alive[:5])}; stop them, run again"
                    )
                for domain in answered(client, "SMEMBERS", keys.domains()) or ():
                    ends = [
                        _end_of(one, name.prefix.encode() + b"events:" + domain)
                        for one, name in ((client, keys), (copy, copies))
                    ]
                    if ends[0] != ends[1]:
                        raise CannotMove(f"events were published into shard {number} meanwhile; run again")

    # --- what is copied -----------------------------------------------------------------------

    def _copy(self, number: int) -> int:
        """Copy all of a shard into the new one of its number; answers how many keys that were."""
        old, new = Keys(self._old[number].namespace), Keys(self._new[number].namespace)
        done = 0
        with self._connect(self._old[number]) as source, self._connect(self._new[number]) as target:
            for page in pages(source, old.prefix):
                names = [name for name in page if word_of(name, old) not in NOT_COPIED]
                copy_page(source, target, names, old.prefix.encode(), new.prefix.encode())
                done += len(names)
                self._say(MoveProgress("copied", number, done))
            rename_queues(target, old, new)
        return done

    def _tell(self, number: int) -> None:
        """Tell the other shards of the events of one which they would be asked to store again."""
        if number >= len(self._old):
            return
        old = Keys(self._old[number].namespace)
        told = 0
        clients = [self._connect(shard) for shard in self._new]
        try:
            with self._connect(self._old[number]) as source:
                keyed = dict(_partition_keys(source, old))
                for page in pages(source, old.event("")):
                    told += self._tell_rows(source, clients, page, number, keyed)
                    self._say(MoveProgress("told of", number, told))
                for page in pages(source, old.prefix + "identity:"):
                    self._tell_identities(source, clients, page, number)
        finally:
            for client in clients:
                client.close()

    def _tell_rows(
        self, source: redis.Redis, clients: list[redis.Redis], page: Sequence[bytes], number: int,
        keyed: dict[tuple[str, str], str],
    ) -> int:  # fmt: skip
        old, told = Keys(self._old[number].namespace), 0
        pipe = source.pipeline(transaction=False)
        for name in page:
            pipe.hgetall(name)
            pipe.pttl(name)
        answers = pipe.execute(raise_on_error=False)
        writes = [client.pipeline(transaction=False) for client in clients]
        for name, row, left in zip(page, answers[::2], answers[1::2], strict=True):
            id = name.decode("utf-8", "replace").removeprefix(old.event(""))
            for field, value in there(row).items():
                kind, _, event_source = field.decode("utf-8", "replace").partition(":")
                if kind != "at":
                    continue
                place = shard_of(keyed.get((event_source, id)), event_source, id, len(clients))
                if place == number:
                    continue
                copy = Keys(self._new[place].namespace).event(id)
                writes[place].hset(copy, mapping={field: value, f"{ELSEWHERE}{event_source}": number})
                if left > 0:
                    writes[place].pexpire(copy, left, gt=True)
                    writes[place].pexpire(copy, left, nx=True)
                told += 1
        for pipe in writes:
            for answer in pipe.execute(raise_on_error=False):
                there(answer)
        return told

    def _tell_identities(
        self, source: redis.Redis, clients: list[redis.Redis], page: Sequence[bytes], number: int
    ) -> None:
        old = Keys(self._old[number].namespace).prefix
        for name in page:
            numbers, left = answered(source, "SMEMBERS", name), int(source.pttl(name))
            for place, client in enumerate(clients):
                if place == number or not numbers:
                    continue
                copy = Keys(self._new[place].namespace).prefix.encode() + name.removeprefix(old.encode())
                client.sadd(copy, *numbers)
                if left > 0:
                    client.pexpire(copy, left)

    def _furnish(self, number: int) -> None:
        """Give a shard that is new what every shard has: services with their groups, pauses, limits."""
        first, keys = Keys(self._old[0].namespace), Keys(self._new[number].namespace)
        with self._connect(self._old[0]) as source, self._connect(self._new[number]) as target:
            stored = answered(source, "HGETALL", first.manifests()) or {}
            for text in stored.values():
                with suppress(InvalidManifest):  # whoever reads it says so, in each shard
                    lua.run_sync(target, register_call(keys, Manifest.from_json(text)))
            if stored:
                target.hset(keys.manifests(), mapping=stored)
                for name, text in stored.items():  # word by word what the service wrote, which it compares
                    service = name.decode("utf-8", "replace")
                    seal = answered(source, "GET", first.sealed_manifest(service))
                    target.set(keys.sealed_manifest(service), seal or text)
            names = [f"{first.prefix}{word}".encode() for word in EVERYWHERE]
            copy_page(source, target, names, first.prefix.encode(), keys.prefix.encode())
            for task in answered(source, "SMEMBERS", first.flows()) or ():
                name = task.decode("utf-8", "replace")
                limits = answered(source, "HGETALL", first.flow(name)) or {}
                kept = {limit: value for limit, value in limits.items() if limit in (b"declared", b"set")}
                if kept:
                    target.hset(keys.flow(name), mapping=kept)
                    target.sadd(keys.flows(), task)
            copy_webhooks(source, target, first, keys, number)
        self._say(MoveProgress("furnished", number, len(stored)))


def _partition_keys(client: redis.Redis, keys: Keys) -> Iterator[tuple[tuple[str, str], str]]:
    """Source and id of the events that have a partition key, and that: those in streams, and those held for later."""
    for domain in answered(client, "SMEMBERS", keys.domains()) or ():
        start, stream = "-", keys.events(domain.decode("utf-8", "replace"))
        while page := answered(client, "XRANGE", stream, start, "+", "COUNT", 1_000):
            for _, fields in page:
                yield from _key_in(fields.get(b"e", b""))
            start = f"({page[-1][0].decode()}"
    if client.type(keys.due_entries()) == b"hash":
        for _, text in client.hscan_iter(keys.due_entries(), count=500):
            yield from _held_key(text)


def _held_key(text: bytes) -> Iterator[tuple[tuple[str, str], str]]:
    """As `_key_in`, of an entry of what waits for later, which holds an event as text."""
    if PARTITION_KEY.encode() not in text:
        return
    try:
        entry = plain_json.loads(text)
    except ValueError:
        return
    for value in entry.values() if isinstance(entry, dict) else ():
        if isinstance(value, str):
            yield from _key_in(value.encode())


def _key_in(text: bytes) -> Iterator[tuple[tuple[str, str], str]]:
    if PARTITION_KEY.encode() not in text:
        return
    try:
        event = plain_json.loads(text)
        key = event[PARTITION_KEY]
        if isinstance(key, str) and key:
            yield (event["source"], event["id"]), key
    except (ValueError, KeyError, TypeError):  # no event
        return


def _end_of(client: redis.Redis, stream: bytes) -> Any:
    is_stream = client.type(stream) == b"stream"
    return client.xinfo_stream(stream).get("last-generated-id") if is_stream else None
