"""Answers as JSON that no cache keeps: they tell how things are now.

Most routes return their model, and the framework writes it. What may be long is written here: the same model, one item of
a list after the other, so that others get their turn; and its data is not copied on the way.
"""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel
from streammesh import plain_json
from streammesh.redisio.turns import Turns

from services.api.cloudevents import CloudEvent

NO_STORE = {"cache-control": "no-store"}


async def no_store(response: Response) -> None:
    """As a dependency: what the framework makes of a route's model is not to be kept."""
    response.headers.update(NO_STORE)


async def in_turns(model: BaseModel, status: int = 200) -> Response:
    """Return a model's answer, written in turns."""
    turns, members = Turns(), []
    for name, value in _members(model).items():
        text = b'"%b":' % name.encode()
        if isinstance(value, list):
            items = []
            for item in value:
                items.append(_text(item))
                await turns.give()
            text += b"[%b]" % b",".join(items)
        else:
            text += _text(value)
            await turns.give()
        members.append(text)
    content = b"{%b}" % b",".join(members)
    return Response(content, status, headers=NO_STORE, media_type="application/json")


def _text(value: Any) -> bytes:
    return plain_json.dumps_plain(value, finite=True, default=_members)


def _members(value: Any) -> dict[str, Any]:
    """The members of a model as it would be written, their own values untouched. Raises TypeError."""
    if not isinstance(value, BaseModel):
        raise TypeError(f"{type(value).__name__} is no model of an answer")
    fields = type(value).model_fields
    found = {field.alias or name: getattr(value, name) for name, field in fields.items()}
    if isinstance(value, CloudEvent):
        found = {name: one for name, one in found.items() if name in value.model_fields_set}
    return found | (value.model_extra or {})
