"""JSON by orjson as Celery's one serializer: nothing else is written, nothing else is accepted."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
from kombu import serialization

NAME = "orjson"
CONTENT_TYPE = "application/json"


def dumps(value: Any) -> str:
    """A value as JSON text; objects with `__json__`, decimals and sets too. Raises TypeError for the rest."""
    return orjson.dumps(value, default=_default, option=orjson.OPT_NON_STR_KEYS).decode()


def _default(value: Any) -> Any:
    if hasattr(value, "__json__"):
        return value.__json__()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON: give the task plain data")


def install() -> None:
    """Make kombu know the serializer; harmless when called again."""
    serialization.register(NAME, dumps, orjson.loads, CONTENT_TYPE, "utf-8")
