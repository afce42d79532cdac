"""Notes what operators do: the route class of every router that changes something but by publishing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message
from streammesh import lua
from streammesh.audit import Action, note_call
from streammesh.errors import MeshError

from services.api import problems
from services.api.shards.scope import ECHO
from services.api.state import Wiring, wirings_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
MOST_BYTES = 2_000  # of what was asked for and of what was answered that are kept
MOST_LOOKED_AT = 131_072  # of a body: a thousand ids
LONGEST_ABOUT = 512
log = structlog.get_logger(__name__)


class AuditedRoute(APIRoute):
    """A route of which each call by an admin key that changes something is noted, before and after it is made.

    Its answer is noted too, so a route that answers with a secret is a `SecretRoute`. Where it cannot be noted it is
    not made. What only says what would be done (`dry_run`) is no action.
    """

    notes_answer = True

    def get_route_handler(self) -> Handler:
        """Return the framework's handler with the notes around it."""
        handler, name, notes_answer = super().get_route_handler(), self.name, self.notes_answer

        async def handle(request: Request) -> Response:
            if request.method in SAFE or request.scope.get(ECHO):
                return await handler(request)
            wiring = wirings_of(request)[0]
            header = request.headers.get("authorization")
            key = await wiring.auth.authenticate(header.encode("latin-1") if header else None)
            if not key.admin:  # it will be refused, or does what the events themselves tell of
                return await handler(request)
            about = ", ".join(str(value) for value in request.path_params.values())
            action = Action(key.name, name, about[:LONGEST_ABOUT], request.scope.get("request_id", ""))
            trail = AuditTrail(wiring, request, action, notes_answer)
            return await trail.around(handler)

        return handle


class SecretRoute(AuditedRoute):
    """One whose answer holds a secret, and is not noted."""

    notes_answer = False


@dataclass(slots=True)
class AuditTrail:
    """One call under way: its body as far as it is kept, and the entry that stands for its beginning."""

    wiring: Wiring
    request: Request
    action: Action
    notes_answer: bool = True
    _body: bytearray = field(default_factory=bytearray)
    _size: int = 0
    _begun: str = ""
    _is_dry: bool = False

    async def around(self, handler: Handler) -> Response:
        """Answer the call; its beginning is noted once its body is there, and its outcome afterwards."""
        expects_body = self.request.headers.get("content-length", "0") != "0" or (
            "transfer-encoding" in self.request.headers
        )
        if not expects_body:
            await self._begin()
        try:
            response = await handler(Request(self.request.scope, self._receive))
        except Exception as error:
            await self._end(_status_of(error), str(error)[:MOST_BYTES])
            raise
        is_shown = self.notes_answer or response.status_code >= 400
        await self._end(response.status_code, _as_kept(bytes(response.body)) if is_shown else None)
        return response

    async def _receive(self) -> Message:
        message = await self.request.receive()
        if message["type"] == "http.request":
            part = message.get("body", b"")
            self._size += len(part)
            self._body += part[: MOST_LOOKED_AT - len(self._body)]
            if not message.get("more_body"):
                await self._begin()
        return message

    async def _begin(self) -> None:
        if self._begun:
            return
        if self._size:
            self.action = replace(self.action, said=_as_kept(bytes(self._body)))
            self._is_dry = _is_dry(bytes(self._body))
        if not self._is_dry:
            async with self.wiring.reading():
                self._begun = await lua.run(self.wiring.redis, note_call(self.wiring.keys, self.action))

    async def _end(self, status: int, answer: Any) -> None:
        if self._is_dry:
            return
        action = replace(self.action, status=status, answer=answer)
        try:
            async with self.wiring.reading():
                await lua.run(self.wiring.redis, note_call(self.wiring.keys, action, self._begun))
        except MeshError as error:  # it was done, and its beginning is noted
            log.error("audit.outcome_not_noted", action=action.action, status=status, reason=str(error)[:200])


def _is_dry(body: bytes) -> bool:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and said.get("dry_run") is True


def _status_of(error: Exception) -> int:
    if isinstance(error, RequestValidationError):
        return 422
    if isinstance(error, HTTPException):
        return error.status_code
    problem = problems.of(error)
    return problem.document("", "").status if problem else 500


def _as_kept(raw: bytes) -> Any:
    """JSON as it is; what is larger, or something else, as the beginning of its text."""
    if len(raw) <= MOST_BYTES:
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    return raw[:MOST_BYTES].decode("utf-8", "replace") or None
