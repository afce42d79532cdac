"""One client's connections to the API: calls that are made again, streams of notifications that are made anew.

The one module of the client that needs aiohttp: it is loaded when a client is opened, not when it is imported.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Container, Mapping
from contextlib import aclosing
from typing import Any, TypeVar
from weakref import WeakSet

import aiohttp
from yarl import URL

from streammesh import plain_json
from streammesh.client.errors import ApiError, ApiUnavailable, InvalidAddress, UnexpectedAnswer
from streammesh.client.outcome import LAST, Note
from streammesh.client.retry import RETRIED, UNAVAILABLE, Backoff, Patience, Reconnect, retry_after
from streammesh.client.sse import EventTooLong, ServerSentEvent, SseParser, events
from streammesh.errors import MeshUnavailable

CONNECT_SECONDS = 5
T = TypeVar("T")
Query = Mapping[str, str] | list[tuple[str, str]] | None
log = logging.getLogger("streammesh.client")
_OPEN: WeakSet[ApiConnection] = WeakSet()


class _Connector(aiohttp.TCPConnector):
    """Does nothing when a forked child collects it: its sockets are the parent's, and so is what waits on them."""

    _process = 0

    def __del__(self, *given: Any) -> None:
        if self._process == os.getpid():
            super().__del__(*given)


class ApiConnection:
    """Open from its making until `close`; made on the loop that uses it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        patience: Patience,
        on_reconnect: Callable[[Reconnect], None] | None,
    ) -> None:
        self._url, self._patience, self._on_reconnect = url, patience, on_reconnect
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
            connector=self._connector(),
        )
        _OPEN.add(self)

    @staticmethod
    def _connector() -> _Connector:
        connector = _Connector(limit=0)  # each stream keeps one; calls never wait for them
        connector._process = os.getpid()
        return connector

    def forget(self) -> None:
        """In a forked child: leave it to the parent, in whose loop it is."""
        self._session.detach()

    async def close(self) -> None:
        """End all of them."""
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        query: Query = None,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        retry_for: float | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Make one call until it is answered, refused, or its time is over. Raises MeshError."""
        backoff = Backoff(self._patience.retry_for if retry_for is None else retry_for)
        url, seconds = URL(self._url + path, encoded=True), timeout or self._patience.timeout
        request: dict[str, Any] = {"params": query}
        if body is not None:
            request.update(data=body, headers={"Content-Type": content_type})
        while True:
            asked: float | None = None
            failure: ApiError | MeshUnavailable
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._session.request(method, url, allow_redirects=False, **request) as answer,
                ):
                    await self._refuse(answer)
                    return self.read(_document, await answer.read())
            except ApiError as error:
                if error.status not in RETRIED:
                    raise
                asked, failure = error.retry_after, error
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._raise_what_stays(error)
                failure = MeshUnavailable(f"{self._url} cannot be reached: {_why(error)}")
            wait = backoff.wait(asked)
            if wait is None:
                raise failure
            log.info("%s %s: %s; again in %.2f s", method, path, failure, wait)
            await asyncio.sleep(wait)

    async def follow(
        self, path: str, query: Query, after: str | None, *, ends: bool
    ) -> AsyncGenerator[Note, None]:
        """Give the notifications of a stream; made anew when it breaks, from where it was. `ends`: with its event."""
        async with aclosing(self.events(path, query, after, LAST if ends else ())) as items:
            async for item in items:
                if (note := _note(item.data, item.event)) is not None:
                    yield note

    async def events(
        self, path: str, query: Query, after: str | None, last_of: Container[str]
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """Give the events of a stream; made anew when it breaks, from where it was, until one of `last_of`."""
        last, backoff = after, Backoff(self._patience.reconnect_for)
        while True:
            parser, headers, asked = SseParser(), {"Accept": "text/event-stream"}, None
            if last:
                headers["Last-Event-ID"] = last
            reason: object = "the API ended the stream"
            try:
                async with self._session.get(
                    URL(self._url + path, encoded=True),
                    params=query,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        connect=CONNECT_SECONDS,
                        sock_connect=CONNECT_SECONDS,
                        sock_read=self._patience.silence,
                    ),
                ) as answer:
                    if answer.status == 204:  # all was told before `after`
                        return
                    if answer.status in RETRIED:
                        asked, reason = retry_after(answer.headers), f"the API answers {answer.status}"
                    else:
                        await self._refuse(answer)
                        if answer.content_type != "text/event-stream":
                            raise self._unexpected(f"a {answer.content_type}, not a stream of events")
                        if backoff.tries:
                            log.info("what %s tells comes again, after %s", self._url, last)
                        backoff.reached()
                        async with aclosing(events(answer.content.iter_any(), parser)) as stream:
                            async for item in stream:
                                backoff.tries = 0
                                if item.event == "closed":  # by the server, which says why; come back
                                    reason = f"the API closed it: {item.data}"
                                    break
                                yield item
                                if item.event in last_of:
                                    return
            except EventTooLong as error:
                raise self._unexpected(str(error)) from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._raise_what_stays(error)
                reason = _why(error)
            last = parser.last_id or last
            wait = backoff.wait(asked)
            if wait is None:
                raise MeshUnavailable(f"{self._url} cannot be reached: {reason}")
            self._tell(Reconnect(str(reason), backoff.tries, wait, last))
            await asyncio.sleep(wait)

    def read(self, form: Callable[[Any], T], answer: Any) -> T:
        """Return an answer as what it should be. Raises UnexpectedAnswer."""
        try:
            return form(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unexpected(f"not its JSON ({type(error).__name__})") from error

    async def _refuse(self, answer: aiohttp.ClientResponse) -> None:
        """Raise what an answer that is no success says."""
        if answer.status < 300:
            return
        if answer.status < 400:
            raise self._unexpected(
                f"a redirect to {answer.headers.get('Location', 'nowhere')}; give that URL"
            )
        try:
            problem = plain_json.loads(await answer.read())
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {"title": answer.reason}
        if answer.status in UNAVAILABLE:
            raise ApiUnavailable(answer.status, problem, retry_after(answer.headers))
        raise ApiError(answer.status, problem, retry_after(answer.headers))

    def _raise_what_stays(self, error: BaseException) -> None:
        """Raise what would be the same at every try."""
        if isinstance(error, aiohttp.InvalidURL):
            raise InvalidAddress(f"{self._url} is no URL") from None
        if isinstance(error, aiohttp.ClientSSLError):
            raise MeshUnavailable(f"{self._url}: no TLS connection: {_why(error)}") from error
        if isinstance(error, aiohttp.ClientResponseError) and not isinstance(
            error, aiohttp.ServerDisconnectedError
        ):
            raise self._unexpected(f"no HTTP ({_why(error)})") from error

    def _unexpected(self, what: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(f"what answers at {self._url} is not a mesh's API: it sent {what}")

    def _tell(self, reconnect: Reconnect) -> None:
        level = logging.WARNING if reconnect.tries == 1 else logging.INFO
        text = "notifications of %s: %s; again in %.2f s, after %s"
        log.log(level, text, self._url, reconnect.reason, reconnect.wait, reconnect.after)
        if self._on_reconnect:
            self._on_reconnect(reconnect)


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return (
            "nothing comes any more" if isinstance(error, aiohttp.SocketTimeoutError) else "no answer in time"
        )
    return str(error) or type(error).__name__


def _document(raw: bytes) -> dict[str, Any]:
    value = plain_json.loads(raw)
    if not isinstance(value, dict):
        raise TypeError
    return value


def _note(data: str, kind: str) -> Note | None:
    """Return a notification; None, and a line in the log, for what is none."""
    try:
        return Note.of(plain_json.loads(data), kind)
    except (ValueError, AttributeError) as error:
        log.warning("left out a notification of type %.80s that cannot be read: %s", kind, error)
        return None


def _forget() -> None:
    for connection in list(_OPEN):
        connection.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
