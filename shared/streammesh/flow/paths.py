"""Paths of an event that an option names: whether anything can stand there. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from streammesh.errors import InvalidManifest

ATTRIBUTES = ("id", "source", "type", "time", "subject", "datacontenttype", "dataschema")
EXTENSION = re.compile(r"[a-z0-9]+")  # CloudEvents 1.0, "Naming conventions"


def check_paths(schema: Callable[[], Mapping[str, Any] | None] = lambda: None, **paths: Any) -> None:
    """Raises InvalidManifest for an option's path where no event has anything, or no payload by this JSON Schema."""
    for option, path in paths.items():
        if isinstance(path, str):
            wrong = impossible_path(option, path) or missing_in_schema(option, path, schema())
            if wrong:
                raise InvalidManifest(wrong)


def impossible_path(option: str, path: str) -> str | None:
    """Say why no event at all has something at a path, and what was probably meant; None where one may."""
    head, _, rest = path.partition(".")
    if not all(path.split(".")) or head == "data":
        return (
            None
            if rest or head != "data"
            else f"{option}={path!r}: name a member of the data, as 'data.tenant'"
        )
    if head not in ATTRIBUTES and not EXTENSION.fullmatch(head):
        return f"{option}={path!r}: no event has an attribute {head!r}; did you mean 'data.{path}'?"
    return (
        f"{option}={path!r}: {head!r} is an attribute, a plain value; did you mean 'data.{path}'?"
        if rest
        else None
    )


def missing_in_schema(option: str, path: str, schema: Mapping[str, Any] | None) -> str | None:
    """Say which member of a path the payload's JSON Schema does not have; None where it may have all."""
    head, *rest = path.split(".")
    if head != "data" or not schema:
        return None
    at: Any = schema
    for number, part in enumerate(rest):
        at = _resolved(at, schema)
        if not isinstance(at, Mapping) or at.get("type") not in (
            "object",
            "string",
            "number",
            "integer",
            "boolean",
        ):
            return None  # several types, a list, or nothing said: it may be there
        if at["type"] != "object":
            return f"{option}={path!r}: {'.'.join(['data', *rest[:number]])} is a plain value"
        known = at.get("properties")
        if at.get("additionalProperties") or not isinstance(known, Mapping):
            return None
        if part not in known:
            there = ", ".join(sorted(known)) or "nothing"
            return f"{option}={path!r}: the payload has no {part!r}; it has {there[:200]}"
        at = known[part]
    return None


def _resolved(at: Any, schema: Mapping[str, Any]) -> Any:
    """What a `$ref` of a schema stands for; of `X | None` the X."""
    for _ in range(8):
        if not isinstance(at, Mapping):
            return at
        others = [one for one in at.get("anyOf", ()) if one != {"type": "null"}]
        if len(others) == 1:
            at = others[0]
        elif isinstance(at.get("$ref"), str) and at["$ref"].startswith("#/$defs/"):
            at = schema.get("$defs", {}).get(at["$ref"].removeprefix("#/$defs/"))
        else:
            return at
    return None
