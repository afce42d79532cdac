"""`Caller`: the key that a route's request carries, as the framework's dependency."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from streammesh.api_keys import ApiKey

from services.api.state import wiring_of

bearer = HTTPBearer(auto_error=False, description="An API key, as `streammesh keys create` prints it.")


async def _caller(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> ApiKey:
    header = request.headers.get("authorization")
    return await wiring_of(request).auth.authenticate(header.encode("latin-1") if header else None)


Caller = Annotated[ApiKey, Depends(_caller)]
