"""Whether answers are what `/openapi.json` says, read strictly: a member that is not described is a fault."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

METHODS = ("get", "post", "put", "patch", "delete", "head")
STREAM = "text/event-stream"


def strict(schema: Any) -> Any:
    """The same schema in which an object has no members besides those that it names."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {
        name: value if name in ("example", "examples") else strict(value) for name, value in schema.items()
    }
    if isinstance(found.get("properties"), dict) and "additionalProperties" not in found:
        found["additionalProperties"] = False
    return found


class Conformance:
    """Compares the answers of an application with its OpenAPI document; remembers which it has seen."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._components = strict(self.document["components"])
        self.seen: set[tuple[str, str, int]] = set()  # path, method, status

    def operations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What is described, by path and method."""
        return {
            (path, method): operation
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
            if method in METHODS
        }

    def find(self, method: str, raw_path: str) -> str | None:
        """The path that answers a request, as the document writes it."""
        paths = [path for path, known in self.operations() if known == method]
        # Ids may hold slashes, and the longer paths go first, as in the application.
        fitting = [path for path in paths if re.fullmatch(_pattern(path), raw_path)]
        return max(fitting, key=_particular, default=None)

    async def check(self, answer: httpx.Response) -> None:
        """As an event hook of httpx. Raises AssertionError for what is not described."""
        method, raw_path = (
            answer.request.method.lower(),
            answer.request.url.raw_path.decode().partition("?")[0],
        )
        path = self.find(method, raw_path)
        if path is None:
            return
        where = f"{method.upper()} {path} answered {answer.status_code}"
        described = self.operations()[path, method]["responses"].get(str(answer.status_code))
        assert described is not None, f"{where}, which is not described"
        self.seen.add((path, method, answer.status_code))
        media = answer.headers.get("content-type", "").partition(";")[0]
        content = described.get("content", {})
        if not content and not media:
            return
        assert media in content, f"{where} with {media!r}; described are {', '.join(content) or 'none'}"
        if media == STREAM or not media.endswith("json"):
            return
        await answer.aread()
        problem = self.wrong(path, method, str(answer.status_code), media, answer.content)
        assert problem is None, f"{where}: {problem}\n{answer.text[:2_000]}"

    def wrong(self, path: str, method: str, status: str, media: str, body: bytes) -> str | None:
        """What in a body is not as described, None where nothing is."""
        errors = self._validator(path, method, status, media).iter_errors(json.loads(body))
        return next((f"/{'/'.join(map(str, e.instance_path))} {e.message[:300]}" for e in errors), None)

    @cache  # noqa: B019  lives as long as a test
    def _validator(self, path: str, method: str, status: str, media: str) -> Any:
        content = self.operations()[path, method]["responses"][status]["content"][media]
        schema = {**strict(content["schema"]), "components": self._components}
        return jsonschema_rs.Draft202012Validator(schema)


def _pattern(path: str) -> str:
    return re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(path))


def _particular(path: str) -> tuple[int, int]:
    return -path.count("{"), len(path)
