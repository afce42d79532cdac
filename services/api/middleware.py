"""The outermost layer: request ids, limits that hold for everything, and one way from errors to answers.

Publishing is called from here directly: a framework's routing would cost more than all of its work.
"""

from __future__ import annotations

import asyncio
import os
import re
from time import perf_counter

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streammesh.telemetry import catalogue

from services.api import problems
from services.api.problems import Problem
from services.api.push.hub import overloaded
from services.api.settings import ApiSettings
from services.api.sse import ABORT, ASLEEP

log = structlog.get_logger(__name__)

PUBLISH_PATH = "/v1/events"
SOCKET_PATH = "/v1/notifications/ws"
# What pages of the origins that API_CORS_ORIGINS names may send and see; a key or token is sent by the page itself.
CORS_SENT = [
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "x-request-id",
    "traceparent",
]
CORS_SHOWN = ["x-request-id", "retry-after", "location"]
CORS_SECONDS = 600  # that a browser remembers it
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SAFE = [  # on each answer: nobody guesses its type, and no address with a token in it is told to another site
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
LIVENESS = ("/livez", "/healthz")  # answered also when the replica is full: that is no reason to restart it
HEADER_BYTES = 32_768
_SINGLE = (
    b"host",
    b"authorization",
    b"content-type",
    b"content-encoding",
    b"idempotency-key",
    b"last-event-id",
)
ONCE = {name: 1 << bit for bit, name in enumerate(_SINGLE)}  # headers of which two would be read in two ways
UNREAD = (
    "streammesh.unread"  # extension of the ASGI scope: whether a part of the request's body is still to come
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Door:
    """An ASGI application around the FastAPI application `app`."""

    def __init__(self, app: FastAPI, settings: ApiSettings, routes: ASGIApp | None = None) -> None:
        self.app, self._routes, self._settings = app, routes or app, settings
        self._inside = 0
        self._serve: ASGIApp = self._serve_request
        if settings.cors_origins:
            self._serve = CORSMiddleware(
                self._serve_request,
                allow_origins=settings.cors_origins,
                allow_methods=sorted(METHODS),
                allow_headers=CORS_SENT,
                expose_headers=CORS_SHOWN,
                max_age=CORS_SECONDS,
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (or the lifespan)."""
        await self._serve(scope, receive, send)

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] != SOCKET_PATH:
            scope["request_id"] = _request_id(scope)
            elsewhere = Problem("not-found", f"There is no WebSocket at this address; {SOCKET_PATH} is one.")
            await respond(scope, elsewhere)(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        header = (b"x-request-id", request_id.encode())
        status, head_after = 0, 0.0
        unread = scope.get("extensions", {}).get(UNREAD)

        async def answer(message: Message) -> None:
            nonlocal status, head_after
            if message["type"] == "http.response.start":
                status = message["status"]
                head_after = perf_counter() - began
                message["headers"] = [*message.get("headers", ()), header, *SAFE]
                if unread and unread["call"]():
                    # What is still to come of the body is nobody's request: the connection cannot be used again.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        began = perf_counter()
        self._inside += 1
        try:
            self._check(scope)
            if scope["path"] == PUBLISH_PATH and scope["method"] == "POST":
                scope["app"] = self.app
                await self.app.state.wiring.publishing(scope, receive, answer)
            else:
                await self._routes(scope, receive, answer)
                asleep = scope.get("extensions", {}).pop(ASLEEP, None)
                if asleep is not None:  # a stream of notifications; nothing of the framework is held for it
                    await asleep.sleep(send)
        except ClientDisconnect:
            log.debug("http.client_gone")
        except asyncio.CancelledError:
            # Only a server that was told to stop does that, when the time of open requests is over.
            abort = scope.get("extensions", {}).get(ABORT)
            if abort is None:
                raise
            log.warning("http.cut_off", method=scope["method"], path=scope["path"])
            abort["call"]()
        except Exception as error:
            response = respond(scope, error)
            if status == 0:
                await response(scope, receive, answer)
        finally:
            self._inside -= 1
            route = route_of(scope)
            catalogue.HTTP_REQUESTS.inc(method_of(scope), route, str(status or 499))
            catalogue.HTTP_SECONDS.observe(head_after, route)
            if self._settings.access_log:
                log.info(
                    "http.request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round((perf_counter() - began) * 1000, 2),
                )

    def _check(self, scope: Scope) -> None:
        if self._inside > self._settings.max_concurrent and scope["path"] not in LIVENESS:
            raise overloaded(f"This replica serves {self._settings.max_concurrent:,} requests already.")
        size, once = 0, 0
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            mark = ONCE.get(name)
            if mark:
                if once & mark:
                    raise _wrong_header(name, "is sent more than once, and could be read in two ways")
                once |= mark
        if size > HEADER_BYTES:
            raise Problem("headers-too-large", f"At most {HEADER_BYTES:,} bytes of headers are allowed.")
        if not once & ONCE[b"host"] and scope["http_version"] == "1.1":
            raise _wrong_header(b"host", "is missing, which HTTP/1.1 asks for")


def route_of(scope: Scope) -> str:
    """The route's path with its parameters' names: a label, so never what a client wrote."""
    if scope["path"] == PUBLISH_PATH:
        return PUBLISH_PATH
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "(none)"


def method_of(scope: Scope) -> str:
    """The method, where it is one that HTTP knows."""
    return scope["method"] if scope["method"] in METHODS else "(other)"


def _wrong_header(name: bytes, detail: str) -> Problem:
    shown = name.decode("latin-1")
    return Problem("malformed-request", f"{shown}: {detail}.", [{"header": shown, "detail": detail}])


def respond(scope: Scope, error: Exception) -> Response:
    """The answer to an error: a problem document. What is our fault is logged, and not shown."""
    problem = problems.of(error)
    if problem is None:
        log.error("http.failed", method=scope["method"], path=scope["path"], exc_info=error)
        problem = Problem("internal", "Something broke here. It was logged under the request id.")
    raw_path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    return problem.response(raw_path.decode("ascii", "replace")[:2_048], scope.get("request_id", ""))


async def handle(request: Request, error: Exception) -> Response:
    """As `respond`, as FastAPI wants its error handlers."""
    return respond(request.scope, error)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return os.urandom(8).hex()
