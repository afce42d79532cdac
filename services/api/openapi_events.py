"""What `POST /v1/events` takes, for the OpenAPI document: the door serves it without the framework."""

from __future__ import annotations

from typing import Any

from streammesh.events.envelope import BATCH, MAX_BATCH, STRUCTURED
from streammesh.names import TYPE_LENGTH

from services.api.schemas import EXAMPLE_EVENT, EXAMPLE_ID

_ATTRIBUTES: dict[str, Any] = {
    "id": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Unique per source."},
    "source": {
        "type": "string",
        "minLength": 1,
        "maxLength": 1024,
        "description": "URI reference; who says it.",
    },
    "type": {
        "type": "string",
        "minLength": 1,
        "maxLength": TYPE_LENGTH,
        "description": "A past-tense fact; lower-case words joined by dots are the advice. The first word is the domain.",
    },
    "subject": {"type": "string", "maxLength": 1024},
    "time": {"type": "string", "format": "date-time"},
    "datacontenttype": {"type": "string", "maxLength": 1024},
    "dataschema": {"type": "string", "maxLength": 1024},
    "data": {"description": "Any JSON."},
    "data_base64": {"type": "string", "contentEncoding": "base64"},
    "deliverat": {"type": "string", "format": "date-time", "description": "Hold it until then."},
    "expirytime": {
        "type": "string",
        "format": "date-time",
        "description": "Start nothing for it after this.",
    },
    "priority": {"type": "integer", "minimum": 0, "maximum": 9, "default": 5},
    "partitionkey": {"type": "string", "maxLength": 1024},
    "correlationid": {"type": "string", "maxLength": 1024},
    "causationid": {"type": "string", "maxLength": 1024},
    "traceparent": {"type": "string", "maxLength": 1024},
    "tracestate": {"type": "string", "maxLength": 1024},
}
_EXTENSION = {"type": ["string", "integer", "boolean"], "description": "An extension attribute."}
_PLAIN = {
    "type": "object",
    "required": ["type"],
    "properties": _ATTRIBUTES,
    "additionalProperties": _EXTENSION,
    "description": "An event whose `id`, `source` (your key's name) and `time` are filled in where they are missing.",
}
_ENVELOPE = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {"specversion": {"const": "1.0"}, **_ATTRIBUTES},
    "additionalProperties": _EXTENSION,
    "description": "CloudEvents 1.0, JSON event format.",
}
_SECOND = {**EXAMPLE_EVENT, "id": EXAMPLE_ID.replace("0198f2f1", "0198f2f2"), "subject": "user/43"}
_HEADERS = {
    "Idempotency-Key": "Stands for the `id` of a plain JSON body that has none: sent again, it is stored once.",
    "ce-specversion": "Binary mode: `1.0`. The body is then the event's data, of any type.",
    "ce-id": "Binary mode: the event's id.",
    "ce-source": "Binary mode: the event's source.",
    "ce-type": "Binary mode: the event's type.",
    "ce-subject": "Binary mode: the event's subject. Further attributes likewise, as `ce-<name>`.",
}

DESCRIPTION = f"""
Publish events. They are stored when the answer comes, and reach the queue of every subscription exactly once.

* **Plain JSON** (`application/json`): `{{"type": ..., "data": ...}}`
* **Structured** (`{STRUCTURED}`): one CloudEvents 1.0 envelope
* **Batch** (`{BATCH}`): up to {MAX_BATCH:,} envelopes, all or nothing, in one step
* **Binary**: attributes in `ce-*` headers, the body is the data

(`source`, `id`) is an event's identity: published again it is stored no second time and answered as the first
time, with `"duplicate": true`; with other content the answer is 409.
"""

OPENAPI: dict[str, Any] = {
    "security": [{"HTTPBearer": []}],
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": text,
            "schema": {"type": "string", "maxLength": 255 if name == "Idempotency-Key" else 1024},
        }
        for name, text in _HEADERS.items()
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _PLAIN,
                "examples": {
                    "plain": {
                        "summary": "Type and data",
                        "value": {"type": "user.registered", "data": EXAMPLE_EVENT["data"]},
                    },
                    "held": {
                        "summary": "Delivered later, before others",
                        "value": {
                            "type": "order.reminder",
                            "data": {"order_id": 7},
                            "deliverat": "2030-01-01T09:00:00Z",
                            "priority": 8,
                        },
                    },
                },
            },
            STRUCTURED: {"schema": _ENVELOPE, "examples": {"structured": {"value": EXAMPLE_EVENT}}},
            BATCH: {
                "schema": {"type": "array", "minItems": 1, "maxItems": MAX_BATCH, "items": _ENVELOPE},
                "examples": {"batch": {"value": [EXAMPLE_EVENT, _SECOND]}},
            },
        },
    },
}
