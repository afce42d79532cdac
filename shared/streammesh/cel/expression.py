"""An expression that was read once and is asked of many events: each part becomes a function. Pure.

What fails (a field that is not there, a text compared with a number) makes the whole not fit, unless `&&` or `||` does
without it, as in CEL. Every part that is looked at takes a step, and a comparison of lists one for each of theirs: an
expression that has used up its steps fails. So no expression costs more than some milliseconds, whatever the event holds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from streammesh.cel.syntax import LARGEST, Node, parse, wrong
from streammesh.errors import InvalidExpression

STEPS = 1_000  # of one look at one event: a millisecond or a few
TEXT_PER_STEP = 256  # characters
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class NoValue(Exception):
    """A part has no value."""


class TooLong(Exception):
    """It has used up its steps; no `||` makes up for that."""


class _Look:
    """One look at one event: its values by name, and how many steps are left."""

    __slots__ = ("left", "value")

    def __init__(self, value: Callable[[str], Any]) -> None:
        self.value, self.left = value, STEPS

    def step(self, many: int = 1) -> None:
        self.left -= many
        if self.left < 0:
            raise TooLong(f"it takes more than {STEPS:,} steps")


Part = Callable[[_Look, Mapping[str, Any]], Any]
_NOTHING: Mapping[str, Any] = {}


class Expression:
    """One expression. `names`: what of an event it asks for."""

    __slots__ = ("_part", "names", "text")

    def __init__(self, text: str, part: Part, names: frozenset[str]) -> None:
        self.text, self._part, self.names = text, part, names

    def fits(self, value: Callable[[str], Any]) -> bool:
        """Whether it is true of what `value` answers by name (LookupError: there is none); False where it fails. Raises TooLong."""
        try:
            return self._part(_Look(value), _NOTHING) is True
        except NoValue:
            return False


@lru_cache(maxsize=16_384)
def expression(text: str, known: frozenset[str], is_open: bool = False) -> Expression:
    """Return an expression over some names; others too, if `is_open`. Raises InvalidExpression, with the place."""
    tree = parse(text)
    asked: set[str] = set()
    if not any(one.kind == "name" for one in _all(tree)):
        raise wrong(text, 0, f"it asks for nothing of an event, such as {min(known)}")
    compiler = _Compiler(text, known, is_open, asked)
    if tree.kind in ("value", "list", "+", "-", "*", "/", "%", "negative") or (
        tree.kind == "call" and tree.value == "size"
    ):
        raise wrong(text, tree.at, "it is not true or false")
    return Expression(text, compiler.part(tree, frozenset()), frozenset(asked))


def _all(node: Node) -> Iterable[Node]:
    yield node
    for part in node.parts:
        yield from _all(part)


class _Compiler:
    def __init__(self, text: str, known: frozenset[str], is_open: bool, asked: set[str]) -> None:
        self._text, self._known, self._is_open, self._asked = text, known, is_open, asked

    def part(self, node: Node, local: frozenset[str]) -> Part:
        """The function of a part, inside macros that name `local`."""
        made: Callable[[Node, frozenset[str]], Part] = getattr(self, f"_{_MADE.get(node.kind, node.kind)}")
        return made(node, local)

    def _value(self, node: Node, _: frozenset[str]) -> Part:
        value = node.value
        return lambda look, local: value

    def _name(self, node: Node, local: frozenset[str]) -> Part:
        name = node.value
        if name in local:
            return lambda look, local: local[name]
        if name not in self._known and not (self._is_open and name.isalnum() and name.islower()):
            known = ", ".join(sorted(self._known))
            raise wrong(self._text, node.at, f"{name!r} is no attribute ({known}); did you mean data.{name}?")
        self._asked.add(name)

        def named(look: _Look, _: Mapping[str, Any]) -> Any:
            look.step()
            try:
                return look.value(name)
            except LookupError:
                raise NoValue(name) from None

        return named

    def _field(self, node: Node, local: frozenset[str]) -> Part:
        target, name = self.part(node.parts[0], local), node.value

        def field(look: _Look, local: Mapping[str, Any]) -> Any:
            look.step()
            value = target(look, local)
            if isinstance(value, dict) and name in value:
                return value[name]
            raise NoValue(name)

        return field

    def _has(self, node: Node, local: frozenset[str]) -> Part:
        target, name = self.part(node.parts[0].parts[0], local), node.parts[0].value

        def has(look: _Look, local: Mapping[str, Any]) -> Any:
            look.step()
            value = target(look, local)
            if not isinstance(value, dict):
                raise NoValue(name)
            return name in value

        return has

    def _index(self, node: Node, local: frozenset[str]) -> Part:
        target, at = (self.part(one, local) for one in node.parts)

        def index(look: _Look, local: Mapping[str, Any]) -> Any:
            look.step()
            value, place = target(look, local), at(look, local)
            if isinstance(value, list) and type(place) is int and 0 <= place < len(value):
                return value[place]
            if isinstance(value, dict) and isinstance(place, str) and place in value:
                return value[place]
            raise NoValue("index")

        return index

    def _list(self, node: Node, local: frozenset[str]) -> Part:
        parts = [self.part(one, local) for one in node.parts]
        if all(one.kind == "value" for one in node.parts):
            values = [one.value for one in node.parts]
            return lambda look, local: values

        def listed(look: _Look, local: Mapping[str, Any]) -> list[Any]:
            look.step(1 + len(parts))
            return [part(look, local) for part in parts]

        return listed

    def _not(self, node: Node, local: frozenset[str]) -> Part:
        part = self.part(node.parts[0], local)

        def negated(look: _Look, local: Mapping[str, Any]) -> bool:
            look.step()
            return not _truth(part(look, local))

        return negated

    def _logic(self, node: Node, local: frozenset[str]) -> Part:
        first, second = (self.part(one, local) for one in node.parts)
        settles = node.kind == "||"  # what makes the other side not matter

        def logic(look: _Look, local: Mapping[str, Any]) -> bool:
            look.step()
            try:
                if _truth(first(look, local)) is settles:
                    return settles
            except NoValue:
                if _truth(second(look, local)) is settles:
                    return settles
                raise
            return _truth(second(look, local))

        return logic

    def _choice(self, node: Node, local: frozenset[str]) -> Part:
        asked, yes, no = (self.part(one, local) for one in node.parts)

        def choice(look: _Look, local: Mapping[str, Any]) -> Any:
            look.step()
            return (yes if _truth(asked(look, local)) else no)(look, local)

        return choice

    def _equality(self, node: Node, local: frozenset[str]) -> Part:
        first, second = (self.part(one, local) for one in node.parts)
        wanted = node.kind == "=="
        return lambda look, local: _equal(look, first(look, local), second(look, local)) is wanted

    def _order(self, node: Node, local: frozenset[str]) -> Part:
        first, second = (self.part(one, local) for one in node.parts)
        compared = _COMPARED[node.kind]

        def order(look: _Look, local: Mapping[str, Any]) -> bool:
            look.step()
            a, b = first(look, local), second(look, local)
            if (_is_number(a) and _is_number(b)) or (isinstance(a, str) and isinstance(b, str)):
                return bool(compared(a, b))
            if isinstance(a, bool) and isinstance(b, bool):
                return bool(compared(a, b))
            raise NoValue("of two kinds")

        return order

    def _among(self, node: Node, local: frozenset[str]) -> Part:
        first, second = (self.part(one, local) for one in node.parts)

        def among(look: _Look, local: Mapping[str, Any]) -> bool:
            one, many = first(look, local), second(look, local)
            if isinstance(many, dict) and isinstance(one, str):
                look.step()
                return one in many
            if isinstance(many, list):
                return any(_equal(look, one, other) for other in many)
            raise NoValue("in")

        return among

    def _arithmetic(self, node: Node, local: frozenset[str]) -> Part:
        first, second = (self.part(one, local) for one in node.parts)
        kind = node.kind

        def arithmetic(look: _Look, local: Mapping[str, Any]) -> Any:
            look.step()
            a, b = first(look, local), second(look, local)
            if kind == "+" and isinstance(a, str) and isinstance(b, str):
                look.step((len(a) + len(b)) // TEXT_PER_STEP)
                return a + b
            if not (_is_number(a) and _is_number(b)):
                raise NoValue("no numbers")
            return _calculated(kind, a, b)

        return arithmetic

    def _negative(self, node: Node, local: frozenset[str]) -> Part:
        part = self.part(node.parts[0], local)

        def negative(look: _Look, local: Mapping[str, Any]) -> Any:
            look.step()
            value = part(look, local)
            if not _is_number(value):
                raise NoValue("no number")
            return -value

        return negative

    def _call(self, node: Node, local: frozenset[str]) -> Part:
        target, *arguments = (self.part(one, local) for one in node.parts)
        name = node.value

        def call(look: _Look, local: Mapping[str, Any]) -> Any:
            look.step()
            value = target(look, local)
            if name == "size":
                if not isinstance(value, str | list | dict):
                    raise NoValue("size")
                return len(value)
            other = arguments[0](look, local)
            if not isinstance(value, str) or not isinstance(other, str):
                raise NoValue("no text")
            if name == "contains":
                look.step(len(value) // TEXT_PER_STEP)
                return other in value
            return value.startswith(other) if name == "startsWith" else value.endswith(other)

        return call

    def _macro(self, node: Node, local: frozenset[str]) -> Part:
        kind, variable = node.value
        target = self.part(node.parts[0], local)
        body = self.part(node.parts[1], local | {variable})
        settles = kind == "exists"

        def macro(look: _Look, local: Mapping[str, Any]) -> bool:
            many = target(look, local)
            if not isinstance(many, list | dict):
                raise NoValue(kind)
            failed = None
            for one in many:
                look.step()
                try:
                    if _truth(body(look, {**local, variable: one})) is settles:
                        return settles
                except NoValue as error:
                    failed = error
            if failed is not None:
                raise failed
            return not settles

        return macro


_MADE = {
    **{
        "!": "not",
        "&&": "logic",
        "||": "logic",
        "?": "choice",
        "==": "equality",
        "!=": "equality",
        "in": "among",
    },
    **dict.fromkeys(_COMPARED, "order"),
    **dict.fromkeys("+-*/%", "arithmetic"),
}


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise NoValue("not true or false")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _calculated(kind: str, a: Any, b: Any) -> Any:
    try:
        if kind == "+":
            value = a + b
        elif kind == "-":
            value = a - b
        elif kind == "*":
            value = a * b
        elif isinstance(a, float) or isinstance(b, float):
            if kind == "%":
                raise NoValue("no whole numbers")
            value = a / b
        else:  # towards zero, as in CEL
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            value = quotient if kind == "/" else a - quotient * b
    except (ArithmeticError, ValueError):
        raise NoValue("no such number") from None
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        raise NoValue("no whole number has more than 64 bits")
    return value


def _equal(look: _Look, a: Any, b: Any) -> bool:
    """Equal as in CEL: numbers by their value, true is not 1, lists and objects part by part."""
    look.step()
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_equal(look, one, other) for one, other in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        look.step(min(len(a), len(b)) // 16)
        return a.keys() == b.keys() and all(_equal(look, value, b[name]) for name, value in a.items())
    return bool(a == b)


__all__ = ["Expression", "InvalidExpression", "expression"]
