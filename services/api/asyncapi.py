"""The AsyncAPI 3.1 document: all event types and notifications, from manifests and their schemas. Pure.

https://www.asyncapi.com/docs/reference/specification/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from streammesh.notification_types import NOTIFICATIONS

from services.api.type_catalogue import KnownType

VERSION = "3.1.0"
DEEPEST = 64  # levels of a schema that are told; below that anything goes
_BY_NAME = ("properties", "patternProperties")  # their members are names, of which one may be `$ref`
_STRANGE = re.compile(r"[^A-Za-z0-9_.-]")
_TEXT = {"type": "string", "minLength": 1}
_SUBJECT = {"type": ["string", "null"]}
_ENVELOPE: dict[str, Any] = {
    "specversion": {"const": "1.0"},
    "id": _TEXT,
    "source": _TEXT,
    "type": _TEXT,
    "time": {"type": "string", "format": "date-time"},
    "subject": _TEXT,
    "datacontenttype": _TEXT,
    "dataschema": {"type": "string", "format": "uri"},
}
_ABOUT = {
    "event": {
        "type": "object",
        "required": ["id", "type", "source", "subject"],
        "properties": {
            "id": _TEXT,
            "type": _TEXT,
            "source": _TEXT,
            "subject": _SUBJECT,
            "traceparent": _TEXT,
        },
    },
    "task": {
        "type": "object",
        "required": ["id", "name", "service", "attempt"],
        "properties": {"id": _TEXT, "name": _TEXT, "service": _TEXT, "attempt": {"type": "integer"}},
    },
}
DESCRIPTION = (
    "Events are CloudEvents 1.0, published over HTTP; what comes of them is told over server-sent events and a "
    "WebSocket. The types are those that your key may read: declared by a service, subscribed to, or published lately."
)


def document(types: Iterable[KnownType], host: str, scheme: str, root: str = "") -> dict[str, Any]:
    """Return the document for a server at `host`, with these types."""
    named = _Names()
    schemas: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    published: dict[str, Any] = {}
    for known in sorted(types, key=lambda one: one.name):
        name = named.of(known.name)
        messages[name] = _event(known, name, schemas)
        published[name] = {"$ref": f"#/components/messages/{name}"}
    told: dict[str, Any] = {}
    for kind, about in NOTIFICATIONS.items():
        name = f"told.{kind}"
        messages[name] = _notification(kind, about.about, about.when, about.data)
        told[name] = {"$ref": f"#/components/messages/{name}"}
    channels: dict[str, Any] = {
        "notifications": _channel("/v1/notifications", "What comes of events: server-sent events.", told),
        "notificationsOfAnEvent": {
            **_channel("/v1/events/{event}/notifications", "What comes of one event, to its end.", told),
            "parameters": {"event": {"description": "The event's id."}},
        },
        "notificationsWebSocket": _channel(
            "/v1/notifications/ws", "The same over a WebSocket, in frames of JSON.", told
        ),
    }
    operations: dict[str, Any] = {
        f"tell{channel[0].upper()}{channel[1:]}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": channels[channel]["description"],
        }
        for channel in channels
    }
    if published:
        channels["events"] = _channel("/v1/events", "Events that are published.", published)
        operations["takeEvents"] = {
            "action": "receive",
            "channel": {"$ref": "#/channels/events"},
            "summary": "Publish an event of one of these types.",
            "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
        }
    return {
        "asyncapi": VERSION,
        "info": {"title": "streammesh", "version": "1", "description": DESCRIPTION},
        "defaultContentType": "application/json",
        "servers": {"api": _server(host, scheme, root)},
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _server(host: str, scheme: str, root: str) -> dict[str, Any]:
    about: dict[str, Any] = {"host": host, "protocol": scheme}
    if root:
        about["pathname"] = root
    return {**about, "security": [{"$ref": "#/components/securitySchemes/key"}]}


def _channel(address: str, description: str, messages: Mapping[str, Any]) -> dict[str, Any]:
    return {"address": address, "description": description, "messages": dict(messages)}


def _event(known: KnownType, name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """One type: the envelope with its data, which is what its publisher declares, or else what all who read it take."""
    promised = {one.source: one.schema for one in known.publishers.values() if one.schema is not None}
    taken = {one.task: one.schema for one in known.readers if one.schema is not None}
    for who, schema in (promised or taken).items():
        hoist(schema, _clean(f"{name}.{who}"), schemas)
    parts = [{"$ref": f"#/components/schemas/{_clean(f'{name}.{who}')}"} for who in promised or taken]
    data: dict[str, Any] = parts[0] if len(parts) == 1 else {"anyOf" if promised else "allOf": parts}
    required = ["specversion", "id", "source", "type"]
    return {
        "name": known.name,
        "title": known.name,
        "contentType": "application/cloudevents+json",
        "payload": {
            "type": "object",
            "required": required,
            "properties": {
                **_ENVELOPE,
                "type": {"const": known.name},
                **({"data": data} if parts else {}),
            },
        },
        "x-publishers": sorted(known.publishers),
        "x-readers": sorted({one.task for one in known.readers}),
    }


def _notification(kind: str, about: str, when: str, members: Iterable[str]) -> dict[str, Any]:
    nothing = {"type": "null"}
    return {
        "name": kind,
        "title": kind,
        "summary": when,
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["id", "type", "time", "event", "task", "data"],
            "properties": {
                "id": _TEXT,
                "type": {"const": kind},
                "time": {"type": "string", "format": "date-time"},
                "event": nothing if about == "subscription" else _ABOUT["event"],
                "task": _ABOUT["task"] if about == "task" else nothing,
                "data": {"type": "object", "properties": {name: {} for name in members}},
            },
        },
    }


def hoist(schema: Any, name: str, schemas: dict[str, Any]) -> None:
    """Put a JSON Schema, and each definition within, among `schemas`: its references then lead there."""
    definitions = schema.get("$defs") if isinstance(schema, Mapping) else None
    known = {key: _clean(f"{name}.{key}") for key in definitions} if isinstance(definitions, Mapping) else {}
    places = {f"#/$defs/{key.replace('~', '~0').replace('/', '~1')}": place for key, place in known.items()}
    places["#"] = name
    schemas[name] = _led(schema, places, 0)
    for key, place in known.items():
        schemas[place] = _led(definitions[key], places, 0) if definitions else {}


def _led(schema: Any, places: Mapping[str, str], depth: int) -> Any:
    if isinstance(schema, list):
        return [_led(one, places, depth + 1) for one in schema] if depth < DEEPEST else []
    if not isinstance(schema, Mapping):
        return schema
    if depth >= DEEPEST:
        return {}
    if "$ref" in schema:
        place = places.get(str(schema["$ref"]))
        return {"$ref": f"#/components/schemas/{place}"} if place else {}  # elsewhere: nobody else is asked
    return {
        key: {name: _led(one, places, depth + 1) for name, one in value.items()}
        if key in _BY_NAME and isinstance(value, Mapping)
        else _led(value, places, depth + 1)
        for key, value in schema.items()
        if key != "$defs"
    }


def _clean(name: str) -> str:
    return _STRANGE.sub("_", name)


class _Names:
    """Names of components for types, of which two may look alike without their strange characters."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def of(self, event_type: str) -> str:
        name = wanted = _clean(event_type)
        number = 2
        while name in self._used:
            name, number = f"{wanted}-{number}", number + 1
        self._used.add(name)
        return name
