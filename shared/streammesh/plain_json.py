"""JSON by orjson, for values that handlers return and tasks are given: plain data, and what is plainly data. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson


def dumps(value: Any) -> bytes:
    """A value as JSON. Pydantic models, dataclasses, decimals, sets, times and ids count as data.

    Raises TypeError, naming the type, for anything else: a client could not read it.
    """
    return orjson.dumps(value, default=as_data, option=orjson.OPT_NON_STR_KEYS)


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
