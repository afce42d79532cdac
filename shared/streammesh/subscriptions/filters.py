"""`where` filters: what may stand in one, and whether an event fits it. Pure.

A text is an expression in CEL (`streammesh/cel/`) over the event's attributes and `data`; else it is paths and conditions.
A path is an attribute (`subject`) or leads into the data (`data.order.currency`, list positions as numbers). A
condition is a value, a list of values (any of), or operators: `exists`, `prefix`, `not`, `>`, `>=`, `<`, `<=`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from streammesh.cel.expression import expression
from streammesh.errors import InvalidExpression
from streammesh.events.envelope import Event

OPERATORS = ("exists", "prefix", "not", ">", ">=", "<", "<=")
MAX_CONDITIONS = 64  # paths of one filter, values of one list: each event is compared with all of them
MAX_PATH = 256
MAX_NESTED = 4  # `not` in `not`
_LARGEST = 2**64  # JSON of the wire holds no larger whole number
MISSING = object()
Where = Mapping[str, Any] | str
NAMES = frozenset(("id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data"))


def problems(where: Any) -> Iterator[str]:
    """What is wrong with a filter, in words; nothing for one that can be asked of every event."""
    if isinstance(where, str):
        try:
            expression(where, NAMES, is_open=True)
        except InvalidExpression as error:
            yield f"where: {error}"
        return
    if not isinstance(where, Mapping):
        yield f"where is {_named(where)}; it should be an object of paths and conditions, or a text in CEL"
        return
    if len(where) > MAX_CONDITIONS:
        yield f"where has {len(where)} paths; at most {MAX_CONDITIONS} are allowed"
        return
    for path, condition in where.items():
        if not isinstance(path, str) or not all(path.split(".")) or len(path) > MAX_PATH:
            shown = repr(path)[:80]
            yield f"where[{shown}]: a path is words joined by dots, such as data.currency"
            continue
        if wrong := _wrong(condition, 0):
            yield f"where[{path!r}]{wrong}"


def _wrong(condition: Any, nested: int) -> str | None:
    if isinstance(condition, Mapping):
        if not condition or any(name not in OPERATORS for name in condition):
            return f" takes the operators {', '.join(OPERATORS)}"
        for name, operand in condition.items():
            if wrong := _wrong_operand(name, operand, nested):
                return wrong
        return None
    if isinstance(condition, list | tuple):
        if len(condition) > MAX_CONDITIONS:
            return f" has {len(condition)} values; at most {MAX_CONDITIONS} are allowed"
        strange = [one for one in condition if not _is_value(one)]
        return (
            f": a list holds plain values (any of them fits), not {_named(strange[0])}" if strange else None
        )
    if not _is_value(condition):
        return f": {_named(condition)} is no text, number, true, false, null, list of these, or operators"
    return None


def _wrong_operand(name: str, operand: Any, nested: int) -> str | None:
    if name == "exists" and not isinstance(operand, bool):
        return f": exists takes true or false, not {_named(operand)}"
    if name == "prefix" and not isinstance(operand, str):
        more = (
            "; for any of several, write a subscription for each" if isinstance(operand, list | tuple) else ""
        )
        return f": prefix takes one text, not {_named(operand)}{more}"
    if name == "not":
        if nested >= MAX_NESTED:
            return f": not stands in not more than {MAX_NESTED} times"
        return _wrong(operand, nested + 1)
    if name in (">", ">=", "<", "<="):
        is_number = isinstance(operand, int | float) and not isinstance(operand, bool)
        if not (isinstance(operand, str) or is_number) or not _is_value(operand):
            return f": {name} takes a number or a text, not {_named(operand)}"
    return None


def _is_value(value: Any) -> bool:
    """Whether it is a plain value that JSON holds as it is."""
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return -_LARGEST / 2 <= value < _LARGEST
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _named(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", tuple: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {value!r}"[:60]
    return kinds.get(type(value), type(value).__name__)


def fits(event: Event, where: Where) -> bool:
    """Whether an event fits a filter: every path must fit its condition, an expression must be true."""
    if isinstance(where, str):
        return expression(where, NAMES, is_open=True).fits(lambda name: _named_value(event, name))
    return all(_holds(value_at(event, path), condition) for path, condition in where.items())


def _named_value(event: Event, name: str) -> Any:
    if name == "data":
        if event.data is None and not event.null_data:
            raise LookupError(name)
        return event.data
    value = event.extensions.get(name, MISSING)
    if value is MISSING:
        value = getattr(event, name) if name in NAMES else None
        if value is None:
            raise LookupError(name)
    return value


def value_at(event: Event, path: str) -> Any:
    """What stands at a path of an event; `MISSING` where nothing does."""
    head, *rest = path.split(".")
    if head == "data":
        value = event.data
    elif head in event.extensions:
        value = event.extensions[head]
    else:
        value = getattr(event, head, MISSING) if head in Event.__dataclass_fields__ else MISSING
        value = MISSING if value is None else value
    for part in rest:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and _is_position(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def _is_position(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10  # "²" is a digit too, and no number


def _holds(value: Any, condition: Any) -> bool:
    if isinstance(condition, Mapping):
        return all(_operator(value, name, operand) for name, operand in condition.items())
    if isinstance(condition, list | tuple):
        return any(_same(value, one) for one in condition)
    return _same(value, condition)


def _same(value: Any, wanted: Any) -> bool:
    """Equal, without Python's 1 == True."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _operator(value: Any, name: str, operand: Any) -> bool:
    if name == "exists":
        return bool((value is not MISSING and value is not None) == operand)
    if name == "not":
        return not _holds(value, operand)
    if name == "prefix":
        return isinstance(value, str) and value.startswith(operand)
    numbers = (int, float)
    if isinstance(value, numbers) and isinstance(operand, numbers):
        pass
    elif not (isinstance(value, str) and isinstance(operand, str)):
        return False
    if name == ">":
        return bool(value > operand)
    if name == ">=":
        return bool(value >= operand)
    if name == "<":
        return bool(value < operand)
    return bool(value <= operand)
