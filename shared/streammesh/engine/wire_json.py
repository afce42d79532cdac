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


def dumps(value: Any) -> str:
    """A value as JSON text. Raises TypeError for what is no data; see `plain_json`."""
    return plain_json.dumps(value).decode()


def loads(text: str | bytes) -> Any:
    """JSON text as values, as kombu's own decoder reads it: what other Celery programs send may hold its typed
    values (dates, UUIDs), NaN, or numbers beyond 64 bits. Raises ValueError.
    """
    raw = text.encode() if isinstance(text, str) else bytes(text)
    if b'"__type__"' not in raw and not _LONG_NUMBER.search(
        raw
    ):  # orjson makes floats of numbers beyond 64 bits
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return kombu_json.loads(raw)


def install() -> None:
    """Make kombu know the serializer; harmless when called again."""
    serialization.register(NAME, dumps, loads, CONTENT_TYPE, "utf-8")
