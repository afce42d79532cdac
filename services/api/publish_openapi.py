"""What `POST /v1/events` takes, for the OpenAPI document: the door serves it without the framework."""

from __future__ import annotations

from typing import Any

from streammesh.events.envelope import BATCH, MAX_BATCH, STRUCTURED

from services.api.cloudevents import CloudEvent, CloudEventBatch, PlainEvent
from services.api.openapi import body, schema_of
from services.api.schemas import EXAMPLE_EVENT, EXAMPLE_ID

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
    **body(
        "One event, or a batch.",
        {
            "application/json": {
                "schema": schema_of(PlainEvent),
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
            STRUCTURED: {
                "schema": schema_of(CloudEvent),
                "examples": {"structured": {"value": EXAMPLE_EVENT}},
            },
            BATCH: {
                "schema": schema_of(CloudEventBatch),
                "examples": {"batch": {"value": [EXAMPLE_EVENT, _SECOND]}},
            },
        },
    ),
}
