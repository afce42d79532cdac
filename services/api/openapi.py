"""Puts together the OpenAPI document: problem answers, bodies that the framework does not parse, schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from services.api.problems import CATALOGUE, MEDIA_TYPE
from services.api.schemas import ProblemDocument

REF = "#/components/schemas/{model}"
REQUEST_ID = {"description": "The request's id, also in logs.", "schema": {"type": "string"}}
_BODIES: dict[str, type[BaseModel]] = {}

ALWAYS = ("malformed-request", "headers-too-large", "internal", "unavailable", "overloaded")
KEYED = ("unauthenticated", *ALWAYS)
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
    for kind in kinds:
        by_status.setdefault(CATALOGUE[kind].status, []).append(kind)
    found: dict[int | str, dict[str, Any]] = {}
    for status, names in sorted(by_status.items()):
        found[status] = {
            "description": "; ".join(dict.fromkeys(CATALOGUE[name].title for name in names)),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": REF.format(model="ProblemDocument")},
                    "examples": {name: {"value": _example(name)} for name in dict.fromkeys(names)},
                }
            },
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
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


def json_answer(model: type[BaseModel], description: str, example: object = None) -> dict[str, Any]:
    """A JSON answer of that shape, for `responses`."""
    _BODIES[model.__name__] = model
    media: dict[str, Any] = {"schema": {"$ref": REF.format(model=model.__name__)}}
    if example is not None:
        media["example"] = example
    return {"description": description, "content": {"application/json": media}}


def body(description: str, media_types: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body itself: what each media type holds."""
    return {"requestBody": {"description": description, "required": True, "content": dict(media_types)}}


def schema_of(model: type[BaseModel]) -> dict[str, str]:
    """A reference to a model's schema, which becomes part of the document."""
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
    models: list[type[BaseModel]] = [ProblemDocument, *_BODIES.values()]
    for model in models:
        schema = model.model_json_schema(ref_template=REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for path, operation in _operations(document):
        _only_problem_documents(operation["responses"])
        for response in operation["responses"].values():
            for example in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).values():
                example["value"]["instance"] = path
            response.setdefault("headers", {})["x-request-id"] = REQUEST_ID
    app.openapi_schema = document
    return document


def _only_problem_documents(responses: dict[str, Any]) -> None:
    """The framework describes its own form of 422, also where a route has nothing that could be wrong."""
    content = responses.get("422", {}).get("content", {})
    content.pop("application/json", None)
    if not content:
        responses.pop("422", None)


def _operations(document: dict[str, Any]) -> Sequence[tuple[str, dict[str, Any]]]:
    return [
        (path, operation)
        for path, operations in document["paths"].items()
        for name, operation in operations.items()
        if name in ("get", "post", "put", "delete", "head")
    ]
