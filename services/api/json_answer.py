"""Answers as JSON that no cache keeps: they tell how things are now."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel

NO_STORE = {"cache-control": "no-store"}


def no_store(response: Response) -> None:
    """As a dependency: what the framework makes of a route's model is not to be kept."""
    response.headers.update(NO_STORE)


class JsonAnswer(Response):
    """A model as the framework would answer it, for a route that answers in several ways."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__(model.model_dump_json(), headers=NO_STORE, media_type="application/json")
