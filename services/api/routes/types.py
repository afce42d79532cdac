"""`/v1/types`: which event types there are, who publishes and who reads each, with what schema, last seen when."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from streammesh import names
from streammesh.clock import rfc3339_ms
from streammesh.names import TYPE_LENGTH

from services.api.caller import Caller
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer
from services.api.state import wiring_of
from services.api.type_catalogue import KnownType

router = APIRouter(tags=["types"])
MOST = 500
_SCHEMA = {"type": "object", "properties": {"order_id": {"type": "integer"}}, "required": ["order_id"]}
_EXAMPLE: dict[str, Any] = {
    "type": "order.placed",
    "domain": "order",
    "publishers": [
        {"source": "shop", "declared": False, "schema": None, "last_seen": "2026-11-22T06:00:00.002Z"}
    ],
    "readers": [
        {
            "service": "audit_worker",
            "task": "audit_worker.record_order",
            "type": "order.placed",
            "where": {"data.currency": "EUR"},
            "schema": _SCHEMA,
        }
    ],
    "last_seen": "2026-11-22T06:00:00.002Z",
}


class TypePublisher(Answer):
    """A source of a type. `declared`: a service says that it publishes it, with the `schema` of its data, or null."""

    source: str
    declared: bool
    schema_: dict[str, Any] | None = Field(alias="schema")
    last_seen: str | None


class TypeReader(Answer):
    """A subscription that covers a type, by the type or glob that it names; `schema` is of the data that it takes."""

    service: str
    task: str
    type: str
    where: dict[str, Any] | str = Field(description="Paths and conditions, or a text in CEL.")
    schema_: dict[str, Any] | None = Field(alias="schema")


class EventType(Answer):
    """One event type. `last_seen` is null where it is declared, or read, and was not seen lately."""

    type: str
    domain: str
    publishers: list[TypePublisher]
    readers: list[TypeReader]
    last_seen: str | None


class EventTypeList(Answer):
    """Types by name; `next` is what to give as `after` for the rest, null at the end."""

    types: list[EventType]
    next: str | None


@router.get(
    "/v1/types",
    summary="Event types",
    responses=answers(*READ, _200=told("A page.", {"types": [_EXAMPLE], "next": None})),
)
async def types(
    request: Request,
    key: Caller,
    type: Annotated[
        str, Query(description="Type or glob.", min_length=1, max_length=TYPE_LENGTH, examples=["order.*"])
    ] = "*",
    after: Annotated[str, Query(description="`next` of the page before.", max_length=TYPE_LENGTH)] = "",
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> EventTypeList:
    """Those that your key may read: declared by a service, subscribed to, or published lately."""
    known = await wiring_of(request).types.all()
    shown = sorted(
        name for name in known if name > after and key.may_subscribe(name) and names.matches(type, name)
    )
    following = shown[limit - 1] if len(shown) > limit else None
    return EventTypeList(types=[type_document(known[name]) for name in shown[:limit]], next=following)


@router.get(
    "/v1/types/{type:path}",
    summary="One event type",
    responses=answers(*READ, _200=told("The type.", _EXAMPLE)),
)
async def event_type(
    request: Request, key: Caller, type: Annotated[str, Path(examples=["order.placed"])]
) -> EventType:
    """Who publishes it, who reads it, what its data is, and when it was last seen."""
    known = (await wiring_of(request).types.all()).get(type) if key.may_subscribe(type) else None
    if known is None:
        raise Problem("not-found", f"Nobody publishes or reads {type[:100]!r}, as far as is known.")
    return type_document(known)


def type_document(known: KnownType) -> EventType:
    """One type, as it is told."""
    return EventType(
        type=known.name,
        domain=names.domain_of(known.name),
        publishers=[
            TypePublisher(
                source=one.source,
                declared=one.declared,
                schema_=None if one.schema is None else dict(one.schema),
                last_seen=None if one.last_ms is None else rfc3339_ms(one.last_ms),
            )
            for one in sorted(known.publishers.values(), key=lambda one: one.source)
        ],
        readers=[
            TypeReader(
                service=one.service,
                task=one.task,
                type=one.pattern,
                where=one.where if isinstance(one.where, str) else dict(one.where),
                schema_=None if one.schema is None else dict(one.schema),
            )
            for one in known.readers
        ],
        last_seen=None if known.last_ms is None else rfc3339_ms(known.last_ms),
    )
