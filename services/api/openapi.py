"""Puts together the OpenAPI document: the framework describes answers; this adds problems and bodies read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.api.problems import CATALOGUE, MEDIA_TYPE

JSON = "application/json"
REF = "#/components/schemas/{model}"
REQUEST_ID = {"description": "The request's id, also in logs.", "schema": {"type": "string"}}
RETRY_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
_BODIES: dict[str, type[BaseModel]] = {}  # what `schema_of` named

ALWAYS = ("malformed-request", "headers-too-large", "internal", "unavailable", "full", "overloaded")
KEYED = ("unauthenticated", "forbidden", *ALWAYS)
READ = ("not-found", "invalid-request", *KEYED)
WRITTEN = (
    *(
        "malformed-body",
        "too-slow",
        "forbidden",
        "event-conflict",
        "body-too-large",
        "unsupported-media-type",
    ),
    *("invalid-request", "invalid-event", "too-many-requests", *KEYED),
)


def answers(*kinds: str, **others: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: problem documents by status, and others such as `_206={...}`."""
    by_status: dict[int, list[str]] = {}
    for kind in dict.fromkeys(kinds):
        by_status.setdefault(CATALOGUE[kind].status, []).append(kind)
    found: dict[int | str, dict[str, Any]] = {}
    for status, names in sorted(by_status.items()):
        documents = dict.fromkeys(CATALOGUE[name].document for name in names)
        found[status] = {
            "model": reduce(or_, documents),
            "description": "; ".join(dict.fromkeys(CATALOGUE[name].title for name in names)),
            "content": {JSON: {"examples": {name: {"value": _example(name)} for name in names}}},
        }
        if status in (429, 503):
            found[status]["headers"] = {"Retry-After": RETRY_AFTER}
    return {**found, **{int(name.removeprefix("_")): value for name, value in others.items()}}


def _example(name: str) -> dict[str, Any]:
    kind = CATALOGUE[name]
    return {
        "type": f"/problems/{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.advice,
        "instance": "/v1/events",
        "request_id": "4f1c2a9b7d3e5f60",
    }


def told(description: str, example: object = None, **more: Any) -> dict[str, Any]:
    """A JSON answer for `responses`: what it is, and an example; `model=` where it is not the route's own."""
    media = {} if example is None else {"content": {JSON: {"example": example}}}
    return {"description": description, **media, **more}


def body(description: str, media_types: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself: what each media type holds."""
    return {"requestBody": {"description": description, "required": True, "content": dict(media_types)}}


def schema_of(model: type[BaseModel]) -> dict[str, str]:
    """A reference to the schema of a body, which becomes part of the document."""
    _BODIES[model.__name__] = model
    return {"$ref": REF.format(model=model.__name__)}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; made once per application."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _, bodies = models_json_schema([(model, "validation") for model in _BODIES.values()], ref_template=REF)
    schemas.update(bodies.get("$defs", {}))
    for path, operation in _operations(document):
        for status, answer in list(operation["responses"].items()):
            if status >= "400":
                _describe_problem(operation["responses"], status, path)
            answer.setdefault("headers", {})["x-request-id"] = REQUEST_ID
    app.openapi_schema = document
    return document


def _describe_problem(responses: dict[str, Any], status: str, path: str) -> None:
    """Problems have a media type of their own; the framework's own form of 422 is never sent."""
    content = responses[status].get("content", {})
    examples = content.get(JSON, {}).get("examples")
    if examples is None:
        del responses[status]
        return
    for example in examples.values():
        example["value"]["instance"] = path
    content[MEDIA_TYPE] = content.pop(JSON)
    content[MEDIA_TYPE]["schema"].pop("title", None)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for name, operation in operations.items():
            if name in ("get", "post", "put", "patch", "delete", "head"):
                yield path, operation
