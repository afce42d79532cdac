"""JSON whose values are exact, or refused: integers of any size, no NaN, no half surrogate pairs. Pure.

orjson does nearly all of it. It makes floats of integers beyond 64 bits and writes `null` for NaN, so a
document that may hold either is read and written once more with care. Numbers with a fraction or an exponent
are IEEE 754 doubles, as in most languages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from itertools import accumulate
from math import isfinite
from typing import Any, NoReturn

import orjson

_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG, _LONG_NEGATIVE = b"0" * 20, b"-" + b"0" * 19
_TEXT = re.compile(rb'"[^"]*+"')
_AS_LISTS = bytes.maketrans(b"{}", b"[]")
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_NO_VALUES = bytes(set(range(256)) - set(b'[{,"'))
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")  # 1 and, as a signed byte, -1
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_BEYOND = "64-bit"  # in what orjson says of an integer that is too large for it
DEEPEST = (
    128  # levels of what is written here: what wraps it for a reader must not go beyond what orjson writes
)


class InexactJson(ValueError):
    """It is JSON, or nearly, and would not come out as it came in; the text says what in it."""


def loads(text: bytes | str) -> Any:
    """JSON as values, integers exact. Raises InexactJson, and ValueError for what is no JSON at all."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _loads_or_say_why(raw, error)
    return _loads_exactly(raw) if has_long_integer(raw) else value


def dumps(value: Any) -> bytes:
    """A value as JSON. Pydantic models, dataclasses, decimals, sets, times and ids count as data.

    Raises TypeError, naming the type, for anything else, and for NaN and infinities: a client could not read it.
    """
    text = _dumps(value, as_data, orjson.OPT_NON_STR_KEYS)
    if is_deeper(text, DEEPEST):
        raise TypeError(f"it is nested deeper than {DEEPEST} levels")
    return text


def dumps_plain(
    value: Any,
    *,
    sort_keys: bool = False,
    finite: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> bytes:
    """A value that is JSON already, as JSON: what reads it gets the same value. Raises TypeError.

    `finite`: it was read from JSON, so there is no NaN to look for.
    """
    return _dumps(value, default, orjson.OPT_SORT_KEYS if sort_keys else 0, finite)


def has_long_integer(raw: bytes) -> bool:
    """Whether there may be an integer beyond 64 bits, of which orjson makes a float."""
    digits = raw.translate(_AS_ZEROS)
    return _LONG in digits or _LONG_NEGATIVE in digits


def is_deeper(text: bytes, limit: int) -> bool:
    """Whether lists and objects of a JSON text are nested in more than `limit` levels.

    The text is not parsed: a value of many small lists would take a hundred times as long.
    """
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    brackets = _structure(text, _NO_STRUCTURE).translate(_AS_LISTS)
    if not brackets:  # all of them stand in strings
        return False
    brackets = brackets.replace(b"[]", b"")
    steps = memoryview(brackets.translate(_STEPS)).cast("b")
    return max(accumulate(steps), default=0) + 1 > limit


def is_crowded(text: bytes, limit: int) -> bool:
    """Whether a JSON text holds more than `limit` values, a list or an object counted twice.

    They are what reading and writing it takes time for.
    """
    if text.count(b",") + text.count(b"[") + text.count(b"{") <= limit:
        return False
    return len(_structure(text, _NO_VALUES)) > limit


def _structure(text: bytes, without: bytes) -> bytes:
    """What is left of a JSON text when its strings are taken out, and these characters."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")  # quotes that end no string
    text = text.translate(None, without).replace(b'""', b"")
    return _TEXT.sub(b"", text) if b'"' in text else text


def as_data(value: Any) -> Any:
    """What a value that orjson does not know is written as. Raises TypeError when it is no data."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "__json__"):
        return value.__json__()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON: use plain data or a pydantic model")


def _dumps(value: Any, default: Callable[[Any], Any] | None, option: int, finite: bool = False) -> bytes:
    try:
        text = orjson.dumps(value, default=default, option=option)
    except TypeError as error:
        if _BEYOND not in str(error):
            raise
        more = None if default is None else lambda found: _spelled_out(default(found))
        text = orjson.dumps(_spelled_out(value), default=more, option=option)
    if not finite and b"null" in text:
        _refuse_not_finite(value)
    return text


def _spelled_out(value: Any) -> Any:
    """A value with its long integers as digits, which orjson copies as they are."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**64 else orjson.Fragment(_digits(value))
    if isinstance(value, dict):
        return {
            str(int(name)) if isinstance(name, int) and abs(name) >= 2**63 else name: _spelled_out(child)
            for name, child in value.items()
        }
    if isinstance(value, list | tuple):
        return [_spelled_out(child) for child in value]
    return _spelled_out(_members(value)) if _is_record(value) else value


def _digits(value: int) -> str:
    try:
        return str(int(value))
    except ValueError as error:
        raise TypeError(f"an integer is too long: {error}") from None


def _refuse_not_finite(value: Any) -> None:
    """Raises TypeError for NaN and infinities, which orjson writes as null."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, float):
            if not isfinite(found):
                raise TypeError(f"{found} is not JSON: there is no NaN and no infinity in it")
        elif isinstance(found, dict):
            waiting += found.values()
        elif isinstance(found, list | tuple | set | frozenset):
            waiting += found
        elif _is_record(found):
            waiting += _members(found).values()
        elif hasattr(found, "model_dump"):
            waiting.append(found.model_dump())


def _is_record(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _members(record: Any) -> dict[str, Any]:
    """A dataclass as orjson writes it."""
    return {f.name: getattr(record, f.name) for f in fields(record) if not f.name.startswith("_")}


def _loads_exactly(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), parse_constant=_no_constant, parse_float=_float)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except RecursionError:
        raise InexactJson("is nested too deeply") from None
    except InexactJson:
        raise
    except ValueError:  # of int(), which takes 4,300 digits
        raise InexactJson("holds an integer of more than 4,300 digits") from None


def _loads_or_say_why(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    """What orjson refused: values where only an integer was too long for it. Raises ValueError."""
    try:
        value = _loads_exactly(raw)
    except InexactJson:
        raise
    except ValueError:
        raise error from None  # orjson's words are as good, and its own position
    if "surrogate" in str(error) and _HALF_PAIR.search(raw):
        raise InexactJson(f"holds half of a surrogate pair, which stands for no character: {error}") from None
    if "depth" in str(error):
        raise InexactJson("is nested too deeply") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise InexactJson(f"holds {name}, which is not JSON: send null, a number or text")


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise InexactJson(f"holds the number {text[:40]}, which no double can hold")
    return value
