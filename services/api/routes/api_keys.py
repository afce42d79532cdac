"""`/v1/keys`: API keys, made, listed and revoked by who has an admin key."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.clock import SystemClock, rfc3339_ms, to_ms
from streammesh.errors import ApiKeyExists, InvalidApiKey

from services.api.audit_trail import SecretRoute
from services.api.auth import must_be_admin
from services.api.caller import Caller
from services.api.json_body import JsonBody
from services.api.openapi import READ, answers, told
from services.api.problems import Problem
from services.api.schemas import Answer
from services.api.state import Wiring, wirings_of

router = APIRouter(tags=["keys"], route_class=SecretRoute)
BODY_LIMIT = 65_536
MOST_GLOBS = 100
_EXAMPLE: dict[str, Any] = {
    "name": "shop",
    "admin": False,
    "publish": ["order.*"],
    "subscribe": ["order.*"],
    "sources": [],
    "rate": None,
    "created_at": "2026-11-22T06:00:00Z",
    "expires_at": None,
    "expired": False,
    "used_at": "2026-11-22T06:05:00.000Z",
}
Globs = Annotated[list[str], Field(max_length=MOST_GLOBS)]


class ApiKeyState(Answer):
    """One API key, without its secret, which nobody has. While it is rotated two have one name."""

    name: str
    admin: bool
    publish: list[str] = Field(description="Globs over the event types that it may publish.")
    subscribe: list[str] = Field(description="Globs over the event types that it may read.")
    sources: list[str] = Field(description="Globs over sources beside its own name.")
    rate: int | None = Field(description="Events a second; null for what the API's settings say.")
    created_at: str
    expires_at: str | None
    expired: bool
    used_at: str | None = Field(description="About when it was last used; null where it never was.")


class ApiKeyMade(ApiKeyState):
    """A new key. `secret` is what its holder sends; it is shown here, and never again."""

    secret: str


class ApiKeyList(Answer):
    """All keys, by name."""

    keys: list[ApiKeyState]


class ApiKeyRequest(BaseModel):
    """What a new key is to allow."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=64, description="Also the source of what it publishes.")
    publish: Globs = Field(default_factory=list, description="Types that it may publish, such as `order.*`.")
    subscribe: Globs = Field(default_factory=list, description="Types that it may be told about.")
    sources: Globs = Field(default_factory=list, description="Sources beside its own name.")
    admin: bool = False
    rate: int | None = Field(None, description="Events a second that it may publish to one API process.")
    expires_at: AwareDatetime | None = Field(None, description="After this it is worth nothing.")


_CREATE = JsonBody(
    ApiKeyRequest,
    "What it is to allow.",
    {"shop": {"value": {"name": "shop", "publish": ["order.*"], "subscribe": ["order.*"]}}},
    BODY_LIMIT,
)


@router.get(
    "/v1/keys",
    summary="API keys",
    responses=answers("forbidden", *READ, _200=told("All.", {"keys": [_EXAMPLE]})),
)
async def list_keys(request: Request, key: Caller) -> ApiKeyList:
    """Needs an admin key."""
    must_be_admin(key)
    wiring, keys = _store(request)
    async with wiring.reading():
        return ApiKeyList(keys=await _states(keys))


@router.post(
    "/v1/keys",
    summary="Make an API key",
    status_code=201,
    responses=answers(
        *("forbidden", "malformed-body", "too-slow", "body-too-large", "unsupported-media-type", *READ),
        _201=told("The key, with its secret.", {**_EXAMPLE, "used_at": None, "secret": "smk_Vq3…"}),
    ),
    openapi_extra=_CREATE.openapi,
)
async def create_key(request: Request, key: Caller) -> ApiKeyMade:
    """Needs an admin key. The secret is in this answer, and never again: only its hash is kept."""
    must_be_admin(key)
    wanted = await _CREATE(request)
    wiring, keys = _store(request)
    try:
        async with wiring.reading():
            secret = await keys.create(
                wanted.name,
                publish=wanted.publish,
                subscribe=wanted.subscribe,
                admin=wanted.admin,
                rate=wanted.rate,
                sources=wanted.sources,
                expires=None if wanted.expires_at is None else wanted.expires_at - SystemClock().now(),
            )
            made = await keys.verify(secret)
    except ApiKeyExists as error:
        raise _invalid("/name", str(error)) from None
    except InvalidApiKey as error:
        raise _invalid("", str(error)) from None
    if made is None:
        raise Problem("not-found", f"The key {wanted.name!r} was revoked as soon as it was made.")
    return ApiKeyMade(**_state(made, {}, 0).model_dump(), secret=secret)


@router.delete(
    "/v1/keys/{name}",
    summary="Revoke an API key",
    responses=answers("forbidden", *READ, _200=told("What it was.", {"keys": [_EXAMPLE]})),
)
async def revoke_key(
    request: Request, key: Caller, name: Annotated[str, Path(max_length=64, examples=["shop"])]
) -> ApiKeyList:
    """Needs an admin key, and another one than the one that is revoked. Each API process notices within seconds."""
    must_be_admin(key)
    if name == key.name:
        raise _invalid("", f"{name!r} is the key that you send; revoke it with another one")
    wiring, keys = _store(request)
    async with wiring.reading():
        ended = [one for one in await _states(keys) if one.name == name]
        if not ended or not await keys.revoke(name):
            raise Problem("not-found", f"There is no API key {name!r}; GET /v1/keys lists them.")
    return ApiKeyList(keys=ended)


def _store(request: Request) -> tuple[Wiring, ApiKeys]:
    wiring = wirings_of(request)[0]
    return wiring, ApiKeys(wiring.redis, wiring.keys)


async def _states(keys: ApiKeys) -> list[ApiKeyState]:
    found, uses = await keys.list(), await keys.last_uses()
    now_ms = to_ms(SystemClock().now())
    return [_state(one, uses, now_ms) for one in found]


def _state(one: ApiKey, uses: dict[str, int], now_ms: int) -> ApiKeyState:
    used = uses.get(one.digest)
    return ApiKeyState(
        name=one.name,
        admin=one.admin,
        publish=list(one.publish),
        subscribe=list(one.subscribe),
        sources=list(one.sources),
        rate=one.rate,
        created_at=one.created,
        expires_at=None if one.expires_ms is None else rfc3339_ms(one.expires_ms),
        expired=one.has_expired(now_ms),
        used_at=None if used is None else rfc3339_ms(used),
    )


def _invalid(pointer: str, detail: str) -> Problem:
    return Problem("invalid-request", detail, [{"pointer": pointer, "detail": detail}])
