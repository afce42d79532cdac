"""The keys and arguments of a script, declared once: by name, in their order, with their types.

    class PromoteScript(Arguments):
        due: Key
        entries: KeyList
        now: Number
        member: Text

declares what `promote.lua` takes. `PromoteScript(due=…, entries=…, now=…, member=…).call(parse)` is a call of it,
checked by mypy; in the Lua text `due`, `entries`, `now` and `member` are locals. Neither side counts positions. What
a script takes several of, field by field, is a `Record`, and a table with these names in Lua.

A class writes its own `__init__` on its first use, as `dataclasses` does: a call costs what two tuples cost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from inspect import get_annotations
from typing import (
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    ParamSpec,
    TypeVar,
    dataclass_transform,
    get_args,
)

from streammesh.lua.script import PRELUDES, Arg, Call, Common, Script, script

T = TypeVar("T")
R = TypeVar("R", bound="Record")
N = TypeVar("N", bound="Named")
P = ParamSpec("P")


class FieldKind(Enum):
    """What a field is sent as, and read as."""

    KEY = "a key"
    WRITTEN = (
        "a key of the same slot that is sent as an argument: Redis asks who calls for no right to read it"
    )
    TEXT = "an argument, the text that was sent"
    NUMBER = "an argument, a number"
    FLAG = "an argument, a boolean"
    KEYS = "keys, an array"
    TEXTS = "arguments, an array of texts"
    EACH = "records, an array of tables"
    REST = "records to the end of keys and arguments, an array of tables"


Key = Annotated[str, FieldKind.KEY]
Written = Annotated[str, FieldKind.WRITTEN]
Text = Annotated[Arg, FieldKind.TEXT]
Number = Annotated[int | float, FieldKind.NUMBER]
Flag = Annotated[bool, FieldKind.FLAG]
KeyList = Annotated[Sequence[str], FieldKind.KEYS]
TextList = Annotated[Sequence[Arg], FieldKind.TEXTS]
Each = Annotated[Sequence[R], FieldKind.EACH]
Rest = Annotated[Sequence[R], FieldKind.REST]  # a ClassVar: each call brings one
SCALARS = {
    FieldKind.KEY: "KEYS[{}]",
    FieldKind.WRITTEN: "ARGV[{}]",
    FieldKind.TEXT: "ARGV[{}]",
    FieldKind.NUMBER: "tonumber(ARGV[{}])",
    FieldKind.FLAG: "ARGV[{}] == '1'",
}


class Field(NamedTuple):
    """One field: its name, its kind, and of which record it has several."""

    name: str
    kind: FieldKind
    record: type[Record] | None = None


class _Slotted(type):
    """The type of classes whose annotations declare fields, and no attributes."""

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> _Slotted:
        members.setdefault("__slots__", ())
        return super().__new__(cls, name, bases, members)


@dataclass_transform(kw_only_default=True, eq_default=False)
class Named(metaclass=_Slotted):
    """Named keys and arguments; made from keyword arguments, one for each declared field."""

    __slots__ = ("args", "keys")
    keys: Sequence[str]
    args: Sequence[Arg]

    def __init__(self, **named: Any) -> None:
        type(self).__init__ = _written(type(self), "__init__(self, *, {}):")  # type: ignore[method-assign]
        type(self).__init__(self, **named)


def quick(cls: Callable[P, N]) -> Callable[P, N]:
    """A function that does what calling the class does, at a third of the cost: for what is made many times."""
    made: Callable[P, N] = _written(
        cls, "made(*, {}, _new=_new, _cls=_cls):", "self = _new(_cls)", "return self"
    )
    return made


class Record(Named):
    """What a script takes several of: the fields of one."""

    def call(self, common: Common, parse: Callable[[Any], T]) -> Call[T]:
        """A call for this one; those of one Common may travel as one command."""
        return Call(common.script, self.keys, self.args, parse, common)


class Arguments(Named):
    """What the script takes that the class is called after: `QueueAckScript` takes the arguments of `queue_ack.lua`."""

    script_name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.script_name = re.sub("(?<!^)([A-Z])", r"_\1", cls.__name__.removesuffix("Script")).lower()
        PRELUDES[cls.script_name] = lambda: prelude(cls)

    @classmethod
    def script(cls) -> Script:
        """The script."""
        return script(cls.script_name)

    def call(self, parse: Callable[[Any], T]) -> Call[T]:
        """The call; `parse` turns the server's answer into what is wanted."""
        return Call(self.script(), self.keys, self.args, parse)

    def common(self) -> Common:
        """What calls for the records of the script's `Rest` have in common."""
        return Common(self.script(), self.keys, self.args)


def fields(cls: type[Named]) -> tuple[Field, ...]:
    """The declared fields, in order. Raises TypeError for a declaration that cannot be read back."""
    found = []
    for name, hint in get_annotations(cls, eval_str=True).items():
        if not hasattr(hint, "__metadata__"):  # a ClassVar is around it
            hint = next(iter(get_args(hint)), hint)
        kind = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, FieldKind)), None)
        if kind is None:
            raise TypeError(f"{cls.__name__}.{name} is neither a key nor an argument")
        record = get_args(get_args(hint)[0])[0] if kind in (FieldKind.EACH, FieldKind.REST) else None
        found.append(Field(name, kind, record))
    order = [0 if one.kind in SCALARS else 1 if one.kind is not FieldKind.REST else 2 for one in found]
    if order != sorted(order) or order.count(2) > 1:
        raise TypeError(f"{cls.__name__}: what there are several of stands last, and one Rest after all")
    return tuple(found)


def _written(cls: Any, head: str, *around: str) -> Any:
    """A function that takes the fields of a class and sets its `keys` and `args`, with a line before and one after."""
    own = [one for one in fields(cls) if one.kind is not FieldKind.REST]
    keys = [name for name, kind, _ in own if kind is FieldKind.KEY]
    flags = {name: f"1 if {name} else ''" for name, kind, _ in own if kind is FieldKind.FLAG}
    args = [flags.get(name, name) for name, kind, _ in own if kind in SCALARS and kind is not FieldKind.KEY]
    lines = ["def " + head.format(", ".join(one.name for one in own)), *around[:1]]
    several = [one for one in own if one.kind not in SCALARS]
    if not several:
        lines.append(f"self.keys = ({''.join(f'{key}, ' for key in keys)})")
        lines.append(f"self.args = ({''.join(f'{arg}, ' for arg in args)})")
    else:
        lines.append(f"self.keys = _keys = [{', '.join(keys)}]")
        lines.append(f"self.args = _args = [{', '.join(args)}]")
    for name, kind, _ in several:
        lines.append(f"_args.append(len({name}))")
        if kind is FieldKind.EACH:
            lines.append(f"for _one in {name}: _keys += _one.keys; _args += _one.args")
        else:
            lines.append(f"{'_keys' if kind is FieldKind.KEYS else '_args'} += {name}")
    made: dict[str, Any] = {"_new": object.__new__, "_cls": cls}
    exec("\n    ".join([*lines, *around[1:]]), made)  # noqa: S102 - of nothing but the names of a class's fields
    return made[head.partition("(")[0]]


def prelude(cls: type[Arguments]) -> str:
    """The Lua text that reads what the script was called with into locals."""
    own = fields(cls)
    scalars, after = _scalars(own, "", "")
    lines = [f"local {', '.join(scalars)} = {', '.join(scalars.values())}"] if scalars else []
    several = [one for one in own if one.kind not in SCALARS]
    if several:
        lines.append(f"local {', '.join(one.name for one in several)} = {', '.join('{}' for _ in several)}")
        lines += ["do", f"  local _k, _a = {after[0]}, {after[1]}"]
        for one in several:
            lines += _inside(*_array(one, one.name, 1))
        lines.append("end")
    return "\n".join(lines)


def _scalars(own: Sequence[Field], k: str, a: str) -> tuple[dict[str, str], tuple[str, str]]:
    """What is read for each scalar, and where the rest begins; `k` and `a`: what positions are counted from."""
    found, keys, args = {}, 0, 0
    for name, kind, _ in own:
        if kind is FieldKind.KEY:
            found[name], keys = SCALARS[kind].format(_at(k, keys)), keys + 1
        elif kind in SCALARS:
            found[name], args = SCALARS[kind].format(_at(a, args)), args + 1
    return found, (_at(k, keys), _at(a, args))


def _at(start: str, offset: int) -> str:
    return f"{start} + {offset}" if start and offset else start or str(offset + 1)


def _array(one: Field, target: str, depth: int) -> list[str]:
    """The lines that fill the array `target`, and move `_k` and `_a` behind what it is read from."""
    size, i = f"n{depth}", f"i{depth}"
    if one.kind is FieldKind.REST:
        return _records(one, target, depth)
    if one.kind is FieldKind.EACH:
        lines = _records(one, target, depth)
    else:
        what, at = ("KEYS", "_k") if one.kind is FieldKind.KEYS else ("ARGV", "_a")
        lines = [
            f"for {i} = 1, {size} do {target}[{i}] = {what}[{at} + {i} - 1] end",
            f"{at} = {at} + {size}",
        ]
    return ["do", *_inside(f"local {size} = tonumber(ARGV[_a])", "_a = _a + 1", *lines), "end"]


def _inside(*lines: str) -> list[str]:
    return [f"  {line}" for line in lines]


def _records(one: Field, target: str, depth: int) -> list[str]:
    assert one.record is not None
    own, row = fields(one.record), f"r{depth}"
    scalars, after = _scalars(own, "_k", "_a")
    several = [inner for inner in own if inner.kind not in SCALARS]
    table = [
        *(f"{name} = {read}" for name, read in scalars.items()),
        *(f"{inner.name} = {{}}" for inner in several),
    ]
    body = [f"local {row} = {{ {', '.join(table)} }}", f"_k, _a = {after[0]}, {after[1]}"]
    for inner in several:
        body += _array(inner, f"{row}.{inner.name}", depth + 1)
    if one.kind is FieldKind.EACH:
        head, store = f"for i{depth} = 1, n{depth} do", f"{target}[i{depth}] = {row}"
    else:
        ends = "_k <= #KEYS" if any(inner.kind is FieldKind.KEY for inner in own) else "_a <= #ARGV"
        head, store = f"while {ends} do", f"{target}[#{target} + 1] = {row}"
    return [head, *_inside(*body, store), "end"]
