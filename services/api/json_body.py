"""A request's JSON body as a model, read within bounds and exactly, which the framework's own reading is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from services.api import problems, request_body
from services.api.openapi import JSON, body, schema_of
from services.api.state import Wiring, wiring_of

M = TypeVar("M", bound=BaseModel)


class JsonBody(Generic[M]):
    """Call it with a request to have the model; `openapi` says the same to the document.

    `limit` is the most bytes; `context` what the model's validators want to know.
    """

    def __init__(
        self,
        model: type[M],
        description: str,
        examples: Mapping[str, Any],
        limit: int | Callable[[Wiring], int],
        context: Callable[[Wiring], Any] = lambda _: None,
    ) -> None:
        self._model, self._limit, self._context = model, limit, context
        media = {"schema": schema_of(model), "examples": dict(examples)}
        self.openapi = body(description, {JSON: media})

    async def __call__(self, request: Request) -> M:
        """Return the body. Raises Problem."""
        wiring = wiring_of(request)
        limit = self._limit if isinstance(self._limit, int) else self._limit(wiring)
        raw = await request_body.read_json(request.scope, request.receive, limit)
        try:
            return self._model.model_validate(raw, context=self._context(wiring))
        except ValidationError as error:
            raise problems.of_validation(error) from None
