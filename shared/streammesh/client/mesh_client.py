"""`MeshClient`: publish over HTTP, follow notifications that reconnect and resume by themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from streammesh import names, plain_json
from streammesh.client.errors import ApiError, InvalidAddress, NotEnded, UnexpectedAnswer
from streammesh.client.outcome import LAST, Note, Outcome, OutcomeOf, Sent
from streammesh.client.retry import RETRIED, UNAVAILABLE, Backoff, retry_after
from streammesh.client.sse import EventTooLong, SseParser, events
from streammesh.errors import MeshError, MeshUnavailable

RETRY_FOR = 30.0
SILENCE = 45.0  # three heartbeats of the API
ASKING = 2.0  # for a last question about what has not ended
T = TypeVar("T")
log = logging.getLogger("streammesh.client")
log.addHandler(logging.NullHandler())  # a library speaks when its program set logging up


@dataclass(frozen=True, slots=True)
class Reconnect:
    """A stream of notifications broke; after `wait` seconds it is asked for again, for the `tries`-th time in a row."""

    reason: str
    tries: int
    wait: float
    after: str | None  # the position from which it goes on


class MeshClient:
    """A client of one mesh's API; use it as an async context manager.

    A call that got no answer, or 408, 429, 500, 502, 503 or 504, is made again for up to `retry_for` seconds (0:
    never), as `Retry-After` says; a publish with the same id, so it takes effect once. One try may take `timeout`
    seconds. A stream of notifications that is silent for `heartbeat_timeout` seconds counts as broken; it is to
    be longer than the API's `API_HEARTBEAT` (15 s). Broken ones are made anew for ever, or until none could be made
    for `reconnect_for` seconds; `on_reconnect` is called each time, and the logger `streammesh.client` told.

    Calls raise ApiError when the API refuses, MeshUnavailable when it cannot be reached, UnexpectedAnswer when
    something else answers: always a MeshError.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str,
        source: str | None = None,
        retry_for: float = RETRY_FOR,
        timeout: float = 30.0,
        heartbeat_timeout: float = SILENCE,
        reconnect_for: float | None = None,
        on_reconnect: Callable[[Reconnect], None] | None = None,
    ) -> None:
        self._url, self._source = _checked_url(url), source
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise InvalidAddress("the API key has characters that no key has; was it copied whole?")
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._retry_for, self._timeout, self._silence = retry_for, timeout, heartbeat_timeout
        self._reconnect_for, self._on_reconnect = reconnect_for, on_reconnect
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5),
            connector=aiohttp.TCPConnector(limit=0),  # each stream keeps one; calls never wait for them
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def publish(
        self,
        event_type: str,
        data: Any,
        *,
        id: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        **extensions: str | int | bool,
    ) -> Sent:
        """Publish one event; return when the mesh has it for good. `source`: instead of the client's own."""
        body = {"id": id or names.new_id(), "type": event_type, **extensions}
        if data is not None:
            body["data"] = data
        if subject is not None:
            body["subject"] = subject
        if (source := self._source if source is None else source) is not None:
            body["source"] = source
        answer = await self._post("/v1/events", plain_json.dumps_plain(body), "application/json")
        return self._read(Sent.of, answer)

    async def publish_batch(self, batch: Sequence[Mapping[str, Any]]) -> list[Sent]:
        """Publish up to 1,000 events in the JSON event format, all or none.

        Each should bring its `id`: the batch may be sent more than once.
        """
        body = plain_json.dumps_plain(batch)
        answer = await self._post("/v1/events", body, "application/cloudevents-batch+json")
        return self._read(lambda found: [Sent.of(item) for item in found["events"]], answer)

    async def event(self, event_id: str, *, source: str | None = None) -> dict[str, Any]:
        """Return the event and everything that came of it. `source` is needed where several used the id."""
        return await self.get(f"/v1/events/{_segment(event_id)}", {"source": source} if source else None)

    async def task(self, task_id: str) -> dict[str, Any]:
        """Return one task."""
        return await self.get(f"/v1/tasks/{_segment(task_id)}")

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask the API what has no method here, such as `/v1/dead-letters`."""
        return await self._call("GET", path, params=query)

    async def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """Tell the API what has no method here. It may be sent more than once, as a publish is."""
        return await self._post(
            path, plain_json.dumps_plain({} if body is None else body), "application/json"
        )

    async def delete(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Have the API remove something. It may be sent more than once, as a publish is."""
        return await self._call("DELETE", path, params=query)

    async def ping(self) -> None:
        """Ask the API whether it is there. Raises MeshUnavailable at once where it is not."""
        await self._call("GET", "/healthz", retry_for=0)

    async def notifications(
        self, *, event: str | None = None, after: str | None = None, **filters: str
    ) -> AsyncGenerator[Note, None]:
        """Follow notifications; when the connection breaks, reconnect and go on where it was.

        With `event`, what happened already comes first and the stream ends when the event has ended.
        `filters`: `task`, `type` (glob), `service`, `subject`; with `event` only `source`, where several
        sources used its id. A note of type `resync` says that history asked for is gone.
        """
        path = f"/v1/events/{_segment(event)}/notifications" if event else "/v1/notifications"
        last, backoff = after, Backoff(self._reconnect_for)
        while True:
            parser, headers, asked = SseParser(), {"Accept": "text/event-stream"}, None
            if last:
                headers["Last-Event-ID"] = last
            reason: object = "the API ended the stream"
            try:
                async with self._open.get(
                    URL(self._url + path, encoded=True),
                    params=filters,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None, connect=5, sock_connect=5, sock_read=self._silence
                    ),
                ) as answer:
                    if answer.status == 204:  # all of the event was told before `after`
                        return
                    if answer.status in RETRIED:
                        asked, reason = retry_after(answer.headers), f"the API answers {answer.status}"
                    else:
                        await self._refuse(answer)
                        if answer.content_type != "text/event-stream":
                            raise self._unexpected(f"a {answer.content_type}, not a stream of events")
                        if backoff.tries:
                            log.info("notifications of %s come again, after %s", self._url, last)
                        backoff.reached()
                        async with aclosing(events(answer.content.iter_any(), parser)) as stream:
                            async for item in stream:
                                backoff.tries = 0
                                if item.event == "closed":  # by the server, which says why; come back
                                    reason = f"the API closed it: {item.data}"
                                    break
                                if (note := _note(item.data, item.event)) is not None:
                                    yield note
                                if event and item.event in LAST:
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

    async def run(self, event_type: str, data: Any, *, timeout: float = 30, **attributes: Any) -> Outcome:
        """Publish and wait until every task of the event has ended.

        Raises NotEnded, a TimeoutError, when it has not ended after `timeout` seconds; it goes on, and says what
        it waits for.
        """
        sent: Sent | None = None
        try:
            async with asyncio.timeout(timeout):
                sent = await self.publish(event_type, data, **attributes)
                found = OutcomeOf(sent.id, sent.source)
                async with aclosing(self.notifications(event=sent.id, source=sent.source)) as notes:
                    async for note in notes:
                        found.add(note)
        except TimeoutError:
            if sent is None:
                raise MeshUnavailable(f"{self._url} did not take the event within {timeout:g} s") from None
            raise NotEnded(sent.id, sent.source, timeout, await self.waiting_for(sent)) from None
        return found.outcome()

    async def waiting_for(self, sent: Sent) -> list[str]:
        """Say of each task of an event that has not ended where it stands; empty where that cannot be asked."""
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(ASKING):
                return self._read(_waiting, await self.event(sent.id, source=sent.source))
        return []

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with MeshClient(...) as mesh`")
        return self._session

    async def _post(self, path: str, body: bytes, content_type: str) -> dict[str, Any]:
        return await self._call("POST", path, data=body, headers={"Content-Type": content_type})

    async def _call(
        self, method: str, path: str, *, retry_for: float | None = None, **request: Any
    ) -> dict[str, Any]:
        """Make one call until it is answered, refused, or its time is over. Raises MeshError."""
        backoff = Backoff(self._retry_for if retry_for is None else retry_for)
        url = URL(self._url + path, encoded=True)
        while True:
            asked, failure = None, None
            try:
                async with (
                    asyncio.timeout(self._timeout),
                    self._open.request(method, url, allow_redirects=False, **request) as answer,
                ):
                    await self._refuse(answer)
                    return self._read(_document, await answer.read())
            except (ApiError, MeshUnavailable) as error:
                if isinstance(error, ApiError) and error.status not in RETRIED:
                    raise
                asked, failure = retry_after(answer.headers), error
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._raise_what_stays(error)
                failure = MeshUnavailable(f"{self._url} cannot be reached: {_why(error)}")
            wait = backoff.wait(asked)
            if wait is None:
                raise failure
            log.info("%s %s: %s; again in %.2f s", method, path, failure, wait)
            await asyncio.sleep(wait)

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
            raise MeshUnavailable(
                str(problem.get("detail") or f"the mesh is not available ({answer.status})")
            )
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

    def _read(self, form: Callable[[Any], T], answer: Any) -> T:
        try:
            return form(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._unexpected(f"not its JSON ({type(error).__name__})") from error

    def _unexpected(self, what: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(f"what answers at {self._url} is not a mesh's API: it sent {what}")

    def _tell(self, reconnect: Reconnect) -> None:
        level = logging.WARNING if reconnect.tries == 1 else logging.INFO
        text = "notifications of %s: %s; again in %.2f s, after %s"
        log.log(level, text, self._url, reconnect.reason, reconnect.wait, reconnect.after)
        if self._on_reconnect:
            self._on_reconnect(reconnect)


def _checked_url(url: str) -> str:
    try:
        found = URL(url)
        good = found.scheme in ("http", "https") and bool(found.host)
        good = good and not (found.query_string or found.user or found.password)
    except (ValueError, TypeError):
        good = False
    if not good:
        given = "one with a password" if "@" in str(url) else repr(str(url)[:40])
        raise InvalidAddress(f"the URL of the API should be like https://mesh.example, not {given}")
    return url.rstrip("/")


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return (
            "nothing comes any more" if isinstance(error, aiohttp.SocketTimeoutError) else "no answer in time"
        )
    return str(error) or type(error).__name__


def _segment(text: str) -> str:
    """Return an id as one segment of a path, whatever characters it has."""
    return quote(text, safe="")


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


def _waiting(event: dict[str, Any]) -> list[str]:
    not_run = event.get("not_run") or []
    named = {one["subscription"] for one in not_run}
    tasks = [delivery["task"] for delivery in event["deliveries"] if delivery["task"]]
    left = [f"{one['subscription']}: {one['detail']}" for one in not_run]
    left += [
        f"{task['name']} is {task['state']}"
        for task in tasks
        if not task["ended_at"] and task["name"] not in named
    ]
    return left or [str(event["detail"])]
