"""`Caller`: the key that a route's request carries; `Listener`: the key or token of a route that only tells.

Both are the framework's dependencies.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from streammesh.api_keys import ApiKey

from services.api.problems import Problem
from services.api.state import wiring_of
from services.api.tokens import LONGEST, Token

bearer = HTTPBearer(auto_error=False, description="An API key, as `streammesh keys create` prints it.")
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def _caller(request: Request, _: Bearer) -> ApiKey:
    key = await wiring_of(request).auth.authenticate(_header(request))
    if isinstance(key, Token):
        raise Problem(
            "forbidden", "A token reads events and tasks and is told of them; this wants the key itself."
        )
    return key


async def _listener(
    request: Request,
    _: Bearer,
    token: Annotated[
        str | None,
        Query(
            description="A token of `POST /v1/tokens`, from clients that cannot send a header, such as EventSource.",
            max_length=LONGEST,
        ),
    ] = None,
) -> ApiKey:
    header = _header(request)
    if token is None:
        return await wiring_of(request).auth.authenticate(header)
    if header is not None:
        raise Problem("malformed-request", "Send either `Authorization` or `token`, not both.")
    key = await wiring_of(request).auth.authenticate(b"Bearer " + token.encode("utf-8", "replace"))
    if not isinstance(key, Token):  # a key in an address would stand in logs and histories
        raise Problem(
            "forbidden", "`token` takes a token of POST /v1/tokens; send a key as `Authorization: Bearer`."
        )
    return key


def _header(request: Request) -> bytes | None:
    header = request.headers.get("authorization")
    return header.encode("latin-1") if header else None


Caller = Annotated[ApiKey, Depends(_caller)]
Listener = Annotated[ApiKey, Depends(_listener)]
