"""What a script is given by name is what it finds by name, whatever it is and however many there are."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import orjson
import pytest
from streammesh.lua import Common, Script, command
from streammesh.lua.signature import (
    Arguments,
    Each,
    Flag,
    Key,
    KeyList,
    Number,
    Record,
    Rest,
    Text,
    TextList,
    prelude,
)


class Part(Record):
    row: Key
    size: Number


class Whole(Record):
    key: Key
    name: Text
    is_new: Flag
    ids: TextList
    parts: Each[Part]


class EchoScript(Arguments):
    first: Key
    text: Text
    number: Number
    yes: Flag
    no: Flag
    keys_: KeyList
    wholes: Each[Whole]


class TogetherScript(Arguments):
    first: Key
    text: Text
    wholes: ClassVar[Rest[Whole]]


def whole(name: str, parts: int) -> Whole:
    return Whole(
        key=f"key of {name}",
        name=name,
        is_new=parts > 0,
        ids=[f"{name}-{i}" for i in range(3)],
        parts=[Part(row=f"row {i} of {name}", size=i) for i in range(parts)],
    )


def table(name: str, parts: int) -> dict[str, object]:
    return {
        "key": f"key of {name}",
        "name": name,
        "is_new": parts > 0,
        "ids": [f"{name}-{i}" for i in range(3)],
        "parts": [{"row": f"row {i} of {name}", "size": i} for i in range(parts)] or {},
    }


async def test_each_name_has_its_value_on_the_other_side(mesh_redis):
    args = EchoScript(
        first="k", text=b"t\x01", number=1.5, yes=True, no=False,
        keys_=["a", "b"], wholes=[whole("x", 0), whole("y", 2)],
    )  # fmt: skip
    text = f"{prelude(EchoScript)}\nreturn cjson.encode({{ first, text, number, yes, no, keys_, wholes }})"

    answer = orjson.loads(await mesh_redis.eval(text, len(args.keys), *args.keys, *args.args))

    assert answer == ["k", "t\x01", 1.5, True, False, ["a", "b"], [table("x", 0), table("y", 2)]]


async def test_what_travels_together_is_told_apart(mesh_redis):
    text = f"{prelude(TogetherScript)}\nreturn cjson.encode({{ first, text, wholes }})".encode()
    common = Common(Script("together", text, ""), ["k"], ["t"])
    calls = [whole(name, parts).call(common, bytes) for name, parts in (("x", 2), ("y", 0), ("z", 1))]

    answer = orjson.loads(await mesh_redis.execute_command(*command(calls, text=True)))

    assert answer == ["k", "t", [table("x", 2), table("y", 0), table("z", 1)]]


def test_a_name_that_is_missing_or_unknown_is_refused():
    with pytest.raises(TypeError, match="size"):
        cast("Any", Part)(row="r")
    with pytest.raises(TypeError, match="colour"):
        cast("Any", Part)(row="r", size=1, colour="red")


def test_what_could_not_be_read_back_is_no_declaration():
    class LateScript(Arguments):
        names: TextList
        after: Text

    class BareScript(Arguments):
        name: str

    with pytest.raises(TypeError, match="stands last"):
        prelude(LateScript)
    with pytest.raises(TypeError, match="BareScript"):
        prelude(BareScript)
