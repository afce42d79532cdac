"""JSON by orjson as Celery's one serializer: nothing else is written, nothing else is accepted."""

from __future__ import annotations

import re
from typing import Any

import orjson
from kombu import serialization
from kombu.utils import json as kombu_json

from streammesh import plain_json

NAME = "orjson"
CONTENT_TYPE = "application/json"
_LONG_NUMBER = re.compile(rb"\d{19}")
_EVERY = 6  # bytes: a number that long shows as three digits in a row in every sixth, which is sooner looked through
_TRACE = re.compile(rb"\d{3}")


def dumps(value: Any) -> str:
    """A value as JSON text. Raises TypeError for what is no data; see `plain_json`."""
    return plain_json.dumps(value).decode()


def loads(text: str | bytes) -> Any:
    """JSON text as values, as kombu's own decoder reads it: what other Celery programs send may hold its typed
    values (dates, UUIDs), NaN, or numbers beyond 64 bits. Raises ValueError.
    """
    raw = text.encode() if isinstance(text, str) else bytes(text)
    if b'"__type__"' not in raw and not _has_long_number(raw):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return kombu_json.loads(raw)


def _has_long_number(raw: bytes) -> bool:
    """Whether there may be a number beyond 64 bits, of which orjson makes a float."""
    return bool(_TRACE.search(raw[_EVERY - 1 :: _EVERY]) and _LONG_NUMBER.search(raw))


def install() -> None:
    """Make kombu know the serializer; harmless when called again."""
    serialization.register(NAME, dumps, loads, CONTENT_TYPE, "utf-8")
