"""Entries that nobody could make sense of, put straight into streams and queues, past every check at the door."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tests.faults.witness import POISON

Fields = dict[str, bytes]
LARGE = 1 << 20  # four times what one event may have
DEEP = 1_000
TASK = "@@task@@"  # stands for an entry's own task id


@dataclass(frozen=True, slots=True)
class Poison:
    """One bad entry: what is wrong with it, its fields, and the id in it by which it is known, where there is one."""

    what: str
    fields: Fields
    task: str = ""


def _event(**changes: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": "poison",
        "source": POISON,
        "type": "fault.noted",
        "data": {"n": 1},
    }
    return orjson.dumps({k: v for k, v in {**event, **changes}.items() if v is not ...})


def _nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def for_streams() -> list[Poison]:
    """What is no event, one of each kind."""
    bad: Mapping[str, bytes] = {
        "nothing": b"",
        "half a JSON object": b"{",
        "JSON null": b"null",
        "a JSON list": b"[]",
        "a JSON number": b"42",
        "bytes that are no text": b"\xff\xfe\x00\x80",
        "an object without anything": b"{}",
        "no type": _event(type=...),
        "no id": _event(id=...),
        "no source": _event(source=...),
        "a type that is a number": _event(type=7),
        "a type with a line break": _event(type="fault\nnoted"),
        "an endless type": _event(type="fault." + "x" * 400),
        "an id that is an object": _event(id={"a": 1}),
        "an empty id": _event(id=""),
        "an id with a NUL": _event(id="a\0b"),
        "a source with a space": _event(source="a b"),
        "an endless id": _event(id="x" * 100_000),
        "an extension that is a list": _event(mine=[1]),
        "another version": _event(specversion="0.3"),
        "data twice": _event(data_base64="aGk="),
        "broken base64": _event(data=..., data_base64="%%%"),
        "a time that is none": _event(time="yesterday"),
        "a priority beyond all": _event(priority=99),
        "nesting without an end": _event(data=...)[:-1] + b',"data":' + _nested(DEEP) + b"}",
        "a large heap of nothing": b" " * LARGE,
        "a large event": _event(data={"n": 1, "fill": "x" * LARGE}),
    }
    return [
        *(Poison(f"event: {what}", {"e": raw}) for what, raw in bad.items()),
        Poison("event: another field", {"other": b"field"}),
    ]


def for_handlers(rng: random.Random) -> list[Poison]:
    """Good events of a type that `fault_async` has a model for, with data that does not fit it."""
    bad: Mapping[str, Any] = {
        "a word for a number": {"n": "many"},
        "no number": {"m": 1},
        "a list for an object": [1, 2],
        "a number for an object": 7,
        "null": None,
    }
    ids = [f"{rng.getrandbits(128):032x}" for _ in bad]  # a task each: a second event of one id is none
    return [
        Poison(f"data: {what}", {"e": _event(id=id, type="fault.typed", data=data)}, id)
        for id, (what, data) in zip(ids, bad.items(), strict=True)
    ]


def for_queues(service: str, rng: random.Random) -> list[Poison]:
    """What is no task for `service`, one of each kind."""
    good_head: dict[str, Any] = {
        "headers": {
            "lang": "py", "id": TASK, "task": f"{service}.note", "retries": 0,
            "timelimit": [None, None], "argsrepr": "", "kwargsrepr": "",
        },
        "properties": {"delivery_info": {"exchange": "", "routing_key": service}, "priority": 5},
        "content-type": "application/json",
        "content-encoding": "utf-8",
    }  # fmt: skip
    good_body = b"[[" + _event(id="nobody-handed-this-over") + b'],{},{"callbacks":null,"errbacks":null}]'

    def head(**changes: Any) -> bytes:
        return orjson.dumps({**good_head, "headers": {**good_head["headers"], **changes}})

    heads: Mapping[str, bytes] = {
        "a head that is no JSON": b"{",
        "a head that is a list": b"[1,2]",
        "a head of bytes": b"\xff\xfe",
        "headers that are a list": orjson.dumps({**good_head, "headers": []}),
        "no properties": orjson.dumps({**good_head, "properties": None}),
        "another content type": orjson.dumps({**good_head, "content-type": "application/x-python-serialize"}),
        "another encoding": orjson.dumps({**good_head, "content-encoding": "utf-16"}),
        "a number for an id": head(id=7),
        "an endless id": head(id="x" * 10_000),
        "a list for a name": head(task=["a"]),
        "a time that is none": head(eta="soon"),
        "limits that are words": head(timelimit=["a", "b"]),
        "a stamp that is none": head(stamped_headers=7),
        "an unknown compression": head(compression="secret"),
        "a deep head": orjson.dumps({**good_head, "headers": {}})[:-1] + b',"x":' + _nested(DEEP) + b"}",
        "a task that nobody knows": head(task=f"{service}.nobody_knows_this"),
        "a task of another service": head(task="somebody_else.note"),
        "a task that nobody handed over": head(),
    }
    bodies: Mapping[str, bytes] = {
        "a body that is no JSON": b"{{{",
        "an empty body": b"",
        "a body that is an object": b"{}",
        "a body of two": b"[[],{}]",
        "arguments that are a number": b"[7,{},{}]",
        "keywords that are a list": b"[[],[],{}]",
        "callbacks that are a word": b'[[],{},{"callbacks":"x"}]',
        "a deep body": b"[[" + _nested(DEEP) + b"],{},{}]",
        "a large body that is no JSON": b"x" * LARGE,
        "no event for an argument": b'[[7],{},{"callbacks":null}]',
        "a broken event for an argument": b'[[{"type":5}],{},{"callbacks":null}]',
    }
    bad = [
        *((what, {"h": raw, "b": good_body}) for what, raw in heads.items()),
        *((what, {"h": head(), "b": raw}) for what, raw in bodies.items()),
        ("no body", {"h": head()}),
        ("no head", {"b": good_body}),
        ("nothing of ours", {"x": b"y"}),
    ]
    return [_told_apart(f"{service}: {what}", fields, rng) for what, fields in bad]


def _told_apart(what: str, fields: Fields, rng: random.Random) -> Poison:
    """With a task id of its own where it has one, since an entry may get another position when it is put back."""
    task = f"{rng.getrandbits(128):032x}"
    return Poison(
        what, {name: raw.replace(TASK.encode(), task.encode()) for name, raw in fields.items()}, task
    )
