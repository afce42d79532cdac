"""JSON by orjson as Celery's one serializer: nothing else is written, nothing else is accepted."""

from __future__ import annotations

from typing import Any

import orjson
from kombu import serialization

from streammesh import plain_json

NAME = "orjson"
CONTENT_TYPE = "application/json"


def dumps(value: Any) -> str:
    """A value as JSON text. Raises TypeError for what is no data; see `plain_json`."""
    return plain_json.dumps(value).decode()


def install() -> None:
    """Make kombu know the serializer; harmless when called again."""
    serialization.register(NAME, dumps, orjson.loads, CONTENT_TYPE, "utf-8")
