"""Celery's JSON, exactly: what kombu's own serializer writes and reads, faster where nothing is special, with two gaps
closed. Data that looks like one of kombu's typed values (`{"__type__": "date", …}`) stays data, and pydantic models,
dataclasses and sets may be given and returned.

Events are no Celery values: they are read by `loads_event`, to which nothing has a type but what JSON gives it.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import orjson
from kombu import serialization
from kombu.utils import json as kombu_json

from streammesh import plain_json

NAME = "orjson"
CONTENT_TYPE = "application/json"
EVENT_NAME = "mesh-event"  # of an event's queue entry inside a worker; on the wire it is application/json
EVENT_TYPE = "application/x-mesh-event+json"
TYPED = frozenset(("__type__", "__value__"))  # the keys of kombu's typed values
_TYPED_TEXT = '"__type__"'


class _Escaped:
    """Data that looks like a typed value."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.members = [[name, member] for name, member in value.items()]


kombu_json.register_type(
    _Escaped,
    "mesh-plain",
    lambda escaped: escaped.members,
    dict,
)


class _Encoder(kombu_json.JSONEncoder):
    def default(self, value: Any) -> Any:
        try:
            return super().default(value)
        except TypeError:
            if is_dataclass(value) and not isinstance(value, type):
                return {field.name: getattr(value, field.name) for field in fields(value)}
            return plain_json.as_data(value)


def dumps(value: Any) -> str:
    """A value as Celery's JSON text. Raises TypeError for what is no data."""
    text = json.dumps(value, cls=_Encoder)
    return json.dumps(_escape(value), cls=_Encoder) if _TYPED_TEXT in text else text


def _escape(value: Any) -> Any:
    if isinstance(value, dict):
        inside = {name: _escape(child) for name, child in value.items()}
        return _Escaped(inside) if inside.keys() == TYPED else inside
    if isinstance(value, list | tuple):
        return [_escape(child) for child in value]
    return value


def loads(text: str | bytes) -> Any:
    """JSON text as values, as kombu's own decoder reads it: what other Celery programs send may hold its typed
    values (dates, UUIDs), NaN, or numbers beyond 64 bits. Raises ValueError.
    """
    raw = _bytes(text)
    if b'"__type__"' in raw:
        return kombu_json.loads(raw)
    return loads_untyped(raw)


def loads_untyped(raw: bytes) -> Any:
    """JSON text as values, whatever they look like; NaN and integers of any size included. Raises ValueError."""
    if not plain_json.has_long_integer(raw):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return json.loads(raw.decode())


def loads_event(text: str | bytes) -> Any:
    """The arguments of a delivery: an event is what its JSON says. Raises ValueError."""
    return loads_untyped(_bytes(text))


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)


def install() -> None:
    """Make kombu know the serializers; harmless when called again."""
    serialization.register(NAME, dumps, loads, CONTENT_TYPE, "utf-8")
    serialization.register(EVENT_NAME, dumps, loads_event, EVENT_TYPE, "utf-8")
