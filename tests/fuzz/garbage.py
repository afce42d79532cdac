"""Garbage for every key of a mesh: of another type, and of the right type with what no part of the mesh would write."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import redis.asyncio
from streammesh.key_types import type_of
from streammesh.keys import Keys

DIGITS_30 = b"9" * 30
TEXTS: list[bytes] = [
    b"", b"\xff\xfe\x00", b"null", b"[]", b"{}", b"5", b'"text"', b"-1", b"1e400", DIGITS_30, b"NaN",
    b"[" * 5_000, b'{"a":' * 2_000, b"x" * 300_000, b"\r\n\r\nid: 1\r\n", "½ ² ｱ".encode(), b"\xed\xa0\x80", b" ",
    b'{"kind":5,"h":{},"b":[],"task":null,"queue":"somewhere:else"}',
    b'{"kind":"task","task":"x","queue":{},"h":7,"b":null}',
    b'{"kind":"event","id":5,"source":[],"domain":{},"digest":null,"json":9}',
    b'{"service":"x","subscriptions":[{"service":"x","task":"x.y","type":5,"where":null}]}',
    b'{"service":"probe","subscriptions":[{"service":"probe","task":"probe.y","type":"*",'
    b'"where":{"subject":{"prefix":["a"]}}}]}',
    b'{"name":5,"publish":7,"subscribe":"*","admin":"yes","rate":"fast"}',
    b'{"since":"yesterday","reason":[],"failures":{}}',
    b'{"form":"task","reason":5,"kind":[],"attempts":"many","event":[]}',
    b'{"form":"event","reason":"x","kind":"y","attempts":1e300,"event":{"type":5}}',
    b'{"name":"x","cron":"* * * *","event":{"type":7}}',
    b'{"specversion":"1.0","id":5,"source":"s","type":"probe.recorded","time":"now"}',
]  # fmt: skip
FIELDS = {
    "events": [b"e"],
    "queue": [b"h", b"b", b"n", b"u", b"w"],
    "held": [b"k", b"h", b"b"],
    "notifications": [b"t", b"e", b"k", b"v", b"y", b"u", b"b"],
    "tasks-recent": [b"s", b"n", b"v", b"a", b"q", b"r", b"k", b"y"],
}
MEMBERS: list[bytes] = [
    b"", b"\xff\xfe", b"task:", b"task:x", b"event:x y", b"entry:x 1-1", b"event:", b"x" * 5_000, b"*", b"a b",
    b"no.such.thing",
]  # fmt: skip
SCORES = [float("-inf"), float("inf"), -1.0, 0.0, 0.5, 1e300, 1.0]
KINDS = ("string", "list", "hash", "set", "zset", "stream")
UNTOUCHED = {
    "cursor-secret",
    "api-keys",
}  # whoever holds them is known by what lies there; of other types only
SERVICES, DOMAIN = ("probe", "probe_sync", "scheduler"), "probe"


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of garbage: what it is, in words, and how it is put there."""

    words: str
    write: Callable[[redis.asyncio.Redis], Awaitable[Any]]


def keys_of(keys: Keys, live: list[str]) -> list[str]:
    """Every key that `keys.py` makes, for the service, domain and names of the mesh under test; and `live` ones."""
    made: list[str] = []
    for service in SERVICES:
        made += _keys_of(keys, service)
    return sorted(dict.fromkeys(made)) + live


def _keys_of(keys: Keys, service: str) -> Iterator[str]:
    arguments = {
        "domain": DOMAIN,
        "service": service,
        "name": service,
        "role": service,
        "task": f"{service}.recorded",
        "exchange": "x",
    }
    for name, method in inspect.getmembers(keys, inspect.ismethod):
        parameters = inspect.signature(method).parameters
        if name.startswith("_") or not set(parameters) - {"step"} <= set(arguments):
            continue
        key = method(**{p: arguments[p] for p in parameters if p in arguments})
        if isinstance(key, str) and type_of(key):
            yield key


def pieces(rng: Random, key: str, present: list[bytes]) -> Iterator[Piece]:
    """Endless garbage for one key, drawn at random; `present`: fields or members that are there."""
    kind = type_of(key) or "string"
    shown = key.partition("}:")[2][:60]
    while True:
        wrong = rng.random() < 0.25 or shown in UNTOUCHED
        if wrong:
            other = rng.choice([one for one in KINDS if one != kind])
            yield Piece(f"{shown} is a {other}", _of_type(key, other))
        else:
            yield _content(rng, key, kind, shown, present)


def _of_type(key: str, kind: str) -> Callable[[redis.asyncio.Redis], Awaitable[Any]]:
    async def write(client: redis.asyncio.Redis) -> None:
        await client.delete(key)
        how: dict[str, tuple[Any, ...]] = {
            "string": ("SET", key, "garbage"), "list": ("RPUSH", key, "garbage"), "set": ("SADD", key, "garbage"),
            "hash": ("HSET", key, "garbage", "garbage"), "zset": ("ZADD", key, 1, "garbage"),
            "stream": ("XADD", key, "*", "garbage", "garbage"),
        }  # fmt: skip
        await client.execute_command(*how[kind])

    return write


def _content(rng: Random, key: str, kind: str, shown: str, present: list[bytes]) -> Piece:
    text = rng.choice(TEXTS)
    if kind == "hash":
        field = rng.choice(present) if present and rng.random() < 0.7 else rng.choice([*MEMBERS, *TEXTS[:6]])
        return _command(f"{shown}[{field[:40]!r}] = {text[:60]!r}", "HSET", key, field, text)
    if kind in ("set", "zset"):
        member = rng.choice([*MEMBERS, *TEXTS[:8]])
        if kind == "set":
            return _command(f"{shown} has {member[:40]!r}", "SADD", key, member)
        score = rng.choice(SCORES)
        return _command(f"{shown} has {member[:40]!r} at {score}", "ZADD", key, score, member)
    if kind == "stream":
        known = FIELDS.get(shown.partition(":")[0], [])
        fields: dict[bytes, bytes] = {b"\xff": b"\xff"} if rng.random() < 0.2 or not known else {}
        for name in known:
            if rng.random() < 0.7:
                fields[name] = rng.choice(TEXTS)
        fields = fields or {b"x": b"y"}
        flat = [part for pair in fields.items() for part in pair]
        words = ", ".join(f"{name!r}: {value[:30]!r}" for name, value in fields.items())
        return _command(f"{shown} has an entry {{{words}}}", "XADD", key, "*", *flat)
    return _command(f"{shown} = {text[:60]!r}", "SET", key, text)


def _command(words: str, *command: Any) -> Piece:
    return Piece(words, lambda client: client.execute_command(*command))
