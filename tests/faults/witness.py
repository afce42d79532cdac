"""What took effect in Redis, told by its append-only file: stored, handed over, ended, told, parked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from streammesh.keys import FORWARDED, RETURNED, Keys

from tests.faults.append_log import Command, transactions

Identity = tuple[str, str]  # source and id of an event
Delivery = tuple[str, str, str]  # source and id of an event, name of the task
LISTS = ("stored", "handed", "ended", "parked", "entries", "taken", "dispatched")  # of the facts, by name
POISON = "poison"  # source of what a scenario put straight into streams and queues


@dataclass(frozen=True, slots=True)
class HandOff:
    """One task put on a queue for the first time."""

    at: int  # ms since the epoch, as all times here
    task: str


@dataclass(frozen=True, slots=True)
class Told:
    """One notification."""

    position: str
    type: str
    event: str
    task: str
    service: str
    event_type: str
    body: bytes
    shard: int = 0

    @property
    def at(self) -> int:
        """When."""
        return int(self.position.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Taken:
    """One consumer was given a queue entry."""

    at: int
    consumer: str


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter as it was parked."""

    id: str
    reason: str
    text: str  # all of it, as JSON


def _letter_of(name: bytes) -> str:
    """The dead letter that a kept field (`h:<id>`, `b:<id>`, ...) belongs to."""
    return name.partition(b":")[2].decode()


def _lists() -> Any:
    return defaultdict(list)


@dataclass(slots=True)
class Facts:
    """All of it."""

    stored: dict[Identity, list[int]] = field(default_factory=_lists)
    types: dict[Identity, str] = field(default_factory=dict)
    causes: dict[Identity, str] = field(
        default_factory=dict
    )  # what followed -> id of the event that it followed
    holds: dict[Identity, int] = field(default_factory=dict)  # until when an event was to be held
    handed: dict[Delivery, list[HandOff]] = field(default_factory=_lists)
    again: int = 0  # tasks put on a queue again: retries, and what a worker put back
    ended: dict[str, list[tuple[int, str]]] = field(
        default_factory=_lists
    )  # task -> when, and in which state
    told: list[Told] = field(default_factory=list)
    parked: dict[str, list[Letter]] = field(default_factory=_lists)  # by service
    kept: dict[tuple[str, str], bytes] = field(default_factory=dict)  # service and letter -> what was parked
    entries: dict[str, list[tuple[str, str]]] = field(
        default_factory=_lists
    )  # task -> queue and entry of each time
    taken: dict[tuple[str, str], list[Taken]] = field(default_factory=_lists)  # queue and entry -> by whom
    dispatched: dict[tuple[str, str], list[Taken]] = field(default_factory=_lists)  # stream, group and entry
    shards: int = 1


def read_facts(
    folder: Path, keys: Keys, deliveries: set[str], *, since_sync: bool = False, shard: int = 0
) -> Facts:
    """Read the append-only file of a server with its data in `folder`; `deliveries` are the names of handlers' tasks.

    `since_sync`: of a replica, from its only synchronisation with its master on. `shard`: the number of the one with
    these keys.
    """
    facts = Facts()
    reader = _Reader(facts, keys, deliveries, shard)
    for commands in transactions(folder, since_sync=since_sync):
        reader.take(commands)
    return facts


def joined_facts(parts: Sequence[Facts], shards: int) -> Facts:
    """Return what all of these say, in the order in which it happened."""
    joined = Facts(shards=shards)
    for part in parts:
        joined.types |= part.types
        joined.causes |= part.causes
        joined.holds |= part.holds
        joined.kept |= part.kept
        joined.again += part.again
        joined.told += part.told
        for field_name in LISTS:
            for name, found in getattr(part, field_name).items():
                getattr(joined, field_name)[name] += found
    joined.told.sort(key=lambda note: (note.at, note.shard))
    for times in joined.stored.values():
        times.sort()
    for ends in joined.ended.values():
        ends.sort()
    for hands in (joined.handed, joined.taken, joined.dispatched):
        for moments in hands.values():
            moments.sort(key=lambda one: one.at)
    return joined


class _Reader:
    def __init__(self, facts: Facts, keys: Keys, deliveries: set[str], shard: int) -> None:
        self._facts, self._deliveries, self._shard = facts, deliveries, shard
        self._events, self._queue = keys.events("").encode(), keys.queue("").encode()
        self._kept = keys.dead_entries("").encode()
        self._dead, self._due = keys.dead("").encode(), keys.due().encode()
        self._recent, self._notes = keys.tasks_recent().encode(), keys.notifications().encode()

    def take(self, commands: list[Command]) -> None:
        # A retry leaves the due set as it is queued; what a worker puts back counts its deliveries in a field.
        promoted = any(c[0].upper() == b"ZREM" and c[1] == self._due for c in commands)
        for command in commands:
            name, key = command[0].upper(), command[1] if len(command) > 1 else b""
            if name == b"XADD":
                position, fields = _entry(command)
                if key.startswith(self._queue):
                    self._queued(key, position, fields, promoted)
                elif key.startswith(self._events):
                    self._stored(position, fields)
                elif key == self._recent:
                    state, task = fields[b"s"].decode(), fields[b"k"].decode()
                    self._facts.ended[task].append((_ms(position), state))
                elif key == self._notes:
                    self._told(position, fields)
            elif name == b"XCLAIM" and key.startswith(self._queue):
                self._claimed(self._facts.taken, key, command)
            elif name == b"XCLAIM" and key.startswith(self._events):
                group = b"%b %b" % (key, command[2])
                self._claimed(self._facts.dispatched, group, command)
            elif name == b"HSET" and key.startswith(self._kept):
                letter = (key[len(self._kept) :].decode(), _letter_of(command[2]))
                self._facts.kept[letter] = self._facts.kept.get(letter, b"") + command[3]
            elif name == b"HSET" and key.startswith(self._dead) and len(command) == 4:
                reason = str(orjson.loads(command[3]).get("reason", ""))
                service = key[len(self._dead) :].decode()
                self._facts.parked[service].append(Letter(command[2].decode(), reason, command[3].decode()))

    def _stored(self, position: str, fields: dict[bytes, bytes]) -> None:
        try:
            event = orjson.loads(fields[b"e"])
            identity = (event["source"], event["id"])
            kind = event["type"]
        except (KeyError, TypeError, orjson.JSONDecodeError):
            return  # it is no event at all
        if POISON in identity:
            return
        self._facts.stored[identity].append(_ms(position))
        self._facts.types[identity] = kind
        if "deliverat" in event:
            self._facts.holds[identity] = round(datetime.fromisoformat(event["deliverat"]).timestamp() * 1000)
        if "causationid" in event:
            self._facts.causes[identity] = event["causationid"]

    def _queued(self, key: bytes, position: str, fields: dict[bytes, bytes], promoted: bool) -> None:
        try:
            headers = orjson.loads(fields[b"h"])["headers"]
            name, task = headers["task"], headers["id"]
            self._facts.entries[task].append((key.decode(), position))
            if name not in self._deliveries:
                return  # a part of a workflow
            event = orjson.loads(fields[b"b"])[0][0]
            delivery = (event["source"], event["id"], name)
        except (KeyError, TypeError, IndexError, orjson.JSONDecodeError):
            return
        if POISON in delivery:
            return
        if promoted or b"n" in fields:
            self._facts.again += 1
        else:
            self._facts.handed[delivery].append(HandOff(_ms(position), task))

    def _told(self, position: str, fields: dict[bytes, bytes]) -> None:
        text = {name: value.decode() for name, value in fields.items() if name != b"b"}
        self._facts.told.append(
            Told(
                position,
                text[b"t"],
                text[b"e"],
                text[b"k"],
                text[b"v"],
                text[b"y"],
                fields[b"b"],
                self._shard,
            )
        )

    @staticmethod
    def _claimed(taken: dict[tuple[str, str], list[Taken]], key: bytes, command: Command) -> None:
        consumer = command[3].decode()
        if consumer in (RETURNED, FORWARDED) or consumer.startswith("forwarder-"):
            return  # no worker
        words = [word.upper() for word in command]
        said = command[words.index(b"TIME") + 1] if b"TIME" in words else b""
        at = int(said) if said.isdigit() else 0  # one bit of the file may have been flipped
        for word in command[5:]:
            if not (b"-" in word and word.replace(b"-", b"").isdigit()):
                break
            taken[(key.decode(), word.decode())].append(Taken(at, consumer))


def _entry(command: Command) -> tuple[str, dict[bytes, bytes]]:
    """Position and fields of an XADD, after its options."""
    rest: Iterator[bytes] = iter(command[2:])
    for word in rest:
        if word.upper() in (b"MAXLEN", b"MINID"):
            if next(rest) in (b"~", b"="):
                next(rest)
        elif word.upper() == b"LIMIT":
            next(rest)
        elif word.upper() not in (b"NOMKSTREAM", b"KEEPREF", b"DELREF", b"ACKED"):
            fields = list(rest)
            return word.decode(), dict(zip(fields[::2], fields[1::2], strict=True))
    raise ValueError(f"an XADD without an entry: {command[:6]!r}")


def _ms(position: str) -> int:
    return int(position.partition("-")[0])


def stored_in(
    folder: Path, keys: Keys, domain: str, *, since_sync: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The events that were ever stored in one domain's stream, each with its time; `since_sync` as in `read_facts`."""
    key = keys.events(domain).encode()
    for commands in transactions(folder, since_sync=since_sync):
        for command in commands:
            if command[0].upper() == b"XADD" and command[1] == key:
                position, fields = _entry(command)
                yield _ms(position), orjson.loads(fields[b"e"])
