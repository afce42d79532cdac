"""`/v1/key`: what the key of a request allows."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field
from streammesh.clock import rfc3339_ms

from services.api.caller import Caller
from services.api.openapi import KEYED, answers, told
from services.api.schemas import Answer

router = APIRouter(tags=["keys"])


class OwnKey(Answer):
    """`operator`: an admin key. `viewer`: it may read every event. `limited`: it may read some types, or none."""

    name: str
    role: Literal["operator", "viewer", "limited"]
    admin: bool
    publish: list[str] = Field(description="Globs over the event types that it may publish.")
    subscribe: list[str] = Field(description="Globs over the event types that it may read.")
    sources: list[str] = Field(description="Globs over sources beside its own name.")
    rate: int | None = Field(description="Events a second; null for what the API's settings say.")
    expires_at: str | None


_EXAMPLE = {
    "name": "shop",
    "role": "limited",
    "admin": False,
    "publish": ["order.*"],
    "subscribe": ["order.*"],
    "sources": [],
    "rate": None,
    "expires_at": None,
}


@router.get(
    "/v1/key",
    summary="What the key that you send allows",
    responses=answers("invalid-request", *KEYED, _200=told("The key, without its secret.", _EXAMPLE)),
)
async def own_key(key: Caller) -> OwnKey:
    """For programs that show only what their user may do, such as the dashboard."""
    role: Literal["operator", "viewer", "limited"] = (
        "operator" if key.admin else "viewer" if key.may_subscribe_to_all else "limited"
    )
    return OwnKey(
        name=key.name,
        role=role,
        admin=key.admin,
        publish=list(key.publish),
        subscribe=list(key.subscribe),
        sources=list(key.sources),
        rate=key.rate,
        expires_at=None if key.expires_ms is None else rfc3339_ms(key.expires_ms),
    )
