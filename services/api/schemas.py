"""What answers are made of: each model makes an answer and its part of the OpenAPI document alike.

A member that no model names cannot be sent. The document leaves `additionalProperties` open all the same: a later
version may add members, and who reads answers steps over those.
"""

from __future__ import annotations

from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

log = structlog.get_logger(__name__)

EXAMPLE_ID = "0198f2f1-8f0a-7c3e-9c55-0d6e7a1b2c3d"
EXAMPLE_TASK = "5b0e3c56-7d0b-5f5e-8a53-0f5d8b1f0a11"
EXAMPLE_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": EXAMPLE_ID,
    "source": "shop",
    "type": "user.registered",
    "time": "2026-11-22T06:00:00.000Z",
    "subject": "user/42",
    "data": {"user_id": 42, "email": "ann@example.com", "name": "Ann"},
}
EXAMPLE_REF = {"id": EXAMPLE_ID, "source": "shop", "type": "user.registered", "subject": "user/42"}
EXAMPLE_LINKS = {
    "self": f"/v1/events/{EXAMPLE_ID}",
    "notifications": f"/v1/events/{EXAMPLE_ID}/notifications",
}
EXAMPLE_ACCEPTED: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "source": "shop",
    "type": "user.registered",
    "duplicate": False,
    "links": EXAMPLE_LINKS,
}


def _open(schema: dict[str, Any]) -> None:
    schema.pop("additionalProperties", None)


class Answer(BaseModel):
    """The base of what is sent. Every member is always there; what is not so yet is null."""

    model_config = ConfigDict(
        extra="forbid",
        serialize_by_alias=True,
        validate_by_name=True,
        json_schema_extra=_open,
        json_schema_serialization_defaults_required=True,
    )


A = TypeVar("A", bound=BaseModel)


def readable(model: type[A], value: Any) -> A | None:
    """Return what Redis or a store holds as a model; None for what is none, which is said: somebody else wrote it."""
    if value is None:
        return None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        log.error("record.unreadable", model=model.__name__, reason=reason[:200])
        return None


class EventLinks(Answer):
    """Where to look at the event, and where to be told about it."""

    self: str
    notifications: str


class SelfLink(Answer):
    """Where to look at it."""

    self: str


class Accepted(Answer):
    """The event is stored (or was before: `duplicate`) and reaches every subscription."""

    id: str
    source: str
    type: str
    duplicate: bool
    links: EventLinks


class AcceptedBatch(Answer):
    """All events of the batch are stored, in their order."""

    events: list[Accepted]


class EventRef(Answer):
    """Which event something is about."""

    id: str
    source: str
    type: str
    subject: str | None = None


class Part(Answer):
    """One thing that has to work."""

    ok: bool
    detail: str
