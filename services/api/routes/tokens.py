"""`/v1/tokens`: what a browser may hold instead of a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from streammesh import names
from streammesh.clock import rfc3339_ms, to_ms
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.names import TYPE_LENGTH
from streammesh.setting_kinds import Duration

from services.api.caller import Caller
from services.api.json_body import JsonBody
from services.api.openapi import KEYED, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer
from services.api.state import wiring_of
from services.api.tokens import Narrowing

router = APIRouter(tags=["keys"])
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=1)
BODY_BYTES = 16_384
Word = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE)]


class TokenWanted(BaseModel):
    """What the token is narrowed to; what is left out is not narrowed."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"types": ["order.*"], "lifetime": "10m"}]}
    )

    types: list[Annotated[str, Field(min_length=1, max_length=TYPE_LENGTH)]] = Field(
        ["*"], min_length=1, max_length=20, description="Globs over event types."
    )
    event: Word | None = Field(None, description="Only this event, by its id.")
    source: Word | None = Field(None, description="Only events of this source.")
    subject: Word | None = Field(None, description="Only events of this subject.")
    task: Word | None = Field(None, description="Only this task, by its id.")
    lifetime: Duration = Field(
        timedelta(minutes=10),
        description="How long it may be used to begin something: 1s to 24h. It ends with its key at the latest.",
        json_schema_extra={"type": "string", "default": "10m", "format": ""},
    )

    @field_validator("types")
    @classmethod
    def _globs(cls, value: list[str]) -> list[str]:
        for glob in value:
            if not names.is_type(glob):
                raise ValueError(f"{glob!r} is no glob over event types, such as order.*")
        return value

    @field_validator("lifetime")
    @classmethod
    def _bounded(cls, value: timedelta) -> timedelta:
        if not SHORTEST <= value <= LONGEST:
            raise ValueError("should be from 1s to 24h")
        return value


class TokenMade(Answer):
    """The token, which is shown once and stored nowhere."""

    token: str
    expires_at: str


_WANTED = JsonBody(
    TokenWanted,
    "What it is narrowed to.",
    {"orders": {"value": {"types": ["order.*"], "lifetime": "10m"}}},
    BODY_BYTES,
)
_EXAMPLE = {"token": "smt_gAAAAABnQE...", "expires_at": "2026-11-22T06:10:00.000Z"}


@router.post(
    "/v1/tokens",
    summary="Make a token that may be told of a part of what your key may",
    status_code=201,
    responses=answers(
        *("malformed-body", "too-slow", "forbidden", "body-too-large", "unsupported-media-type"),
        *("invalid-request", *KEYED),
        _201=told("The token.", _EXAMPLE),
    ),
    openapi_extra=_WANTED.openapi,
)
async def make_token(request: Request, key: Caller) -> TokenMade:
    """For browsers: as `?token=` or as a bearer of its own. It reads events and tasks and is told of them, no more."""
    if not key.may_subscribe_to_any:
        raise Problem("forbidden", f"The key {key.name!r} may read nothing, and so may a token of it.")
    wanted = await _WANTED(request)
    wiring = wiring_of(request)
    ends_ms = to_ms(datetime.now(UTC) + wanted.lifetime)
    if key.expires_ms is not None:
        ends_ms = min(ends_ms, key.expires_ms)
    narrowing = Narrowing(tuple(wanted.types), wanted.event, wanted.source, wanted.subject, wanted.task)
    async with wiring.reading():
        token = await wiring.tokens.issue(key, narrowing, ends_ms)
    return TokenMade(token=token, expires_at=rfc3339_ms(ends_ms))
