"""`MeshClient`: publish over HTTP, follow notifications that reconnect and resume by themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from streammesh import names, plain_json
from streammesh.client.sse import SseParser, events
from streammesh.errors import MeshError, MeshUnavailable

PUBLISH_TRIES = 5
LONGEST_WAIT = 5.0  # seconds between two tries
ENDS = ("task.succeeded", "task.failed", "task.cancelled", "task.expired")


class ApiError(MeshError):
    """The API refused the request; nothing was changed. `problem` is its RFC 9457 document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status, self.problem = status, problem
        errors = problem.get("errors", [])
        fields = "; ".join(f"{e.get('pointer')}: {e.get('detail')}" for e in errors)
        detail = (
            problem.get("detail") or problem.get("title") or "no reason given"
        )  # it tells the first error
        super().__init__(f"{status}: {detail}{f' ({fields})' if len(errors) > 1 else ''}")


@dataclass(frozen=True, slots=True)
class Sent:
    """What a publish was answered: the event's identity, and whether it was known already."""

    id: str
    source: str
    type: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Note:
    """One notification. `id` is the position to resume after."""

    id: str
    type: str
    time: str
    event: dict[str, Any]
    task: dict[str, Any] | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an event ended: the last notification of each of its tasks."""

    event_id: str
    tasks: list[Note] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether every task of it succeeded."""
        return all(note.type == "task.succeeded" for note in self.tasks)


class MeshClient:
    """A client of one mesh's API; use it as an async context manager.

    A publish that got no answer, or `503`, is sent again with the same id, so it takes effect once. Calls
    raise ApiError when the API refuses, MeshUnavailable when it cannot be reached.
    """

    def __init__(self, url: str, *, api_key: str, source: str | None = None) -> None:
        self._url, self._source = url.rstrip("/"), source
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=None, connect=5, sock_connect=5)
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
        subject: str | None = None,
        **extensions: str | int | bool,
    ) -> Sent:
        """Publish one event; returns when the mesh has it for good."""
        body = {"id": id or names.new_id(), "type": event_type, **extensions}
        if data is not None:
            body["data"] = data
        if subject is not None:
            body["subject"] = subject
        if self._source is not None:
            body["source"] = self._source
        return _sent(await self._post("/v1/events", plain_json.dumps_plain(body), "application/json"))

    async def publish_batch(self, batch: Sequence[Mapping[str, Any]]) -> list[Sent]:
        """Publish up to 1,000 events in the JSON event format, all or none."""
        answer = await self._post(
            "/v1/events", plain_json.dumps_plain(batch), "application/cloudevents-batch+json"
        )
        return [_sent(item) for item in answer["events"]]

    async def event(self, event_id: str, *, source: str | None = None) -> dict[str, Any]:
        """The event and everything that came of it. `source` is needed where several sources used the id."""
        return await self._get(f"/v1/events/{_segment(event_id)}", {"source": source} if source else None)

    async def task(self, task_id: str) -> dict[str, Any]:
        """One task."""
        return await self._get(f"/v1/tasks/{_segment(task_id)}")

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask the API what has no method here, such as `/v1/dead-letters`."""
        return await self._get(path, query)

    async def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """Tell the API what has no method here. It may be sent more than once, as a publish is."""
        return await self._post(
            path, plain_json.dumps_plain({} if body is None else body), "application/json"
        )

    async def ping(self) -> None:
        """Ask the API whether it is there. Raises MeshUnavailable at once where it is not."""
        await self._get("/healthz")

    async def notifications(
        self, *, event: str | None = None, after: str | None = None, **filters: str
    ) -> AsyncGenerator[Note, None]:
        """Follow notifications; when the connection breaks, reconnect and go on where it was.

        With `event`, what happened already comes first and the stream ends when the event has ended.
        `filters`: `task`, `type` (glob), `service`, `subject`; with `event` only `source`, where several
        sources used its id. A note of type `resync` says that history asked for is gone.
        """
        path = f"/v1/events/{_segment(event)}/notifications" if event else "/v1/notifications"
        last, wait = after, 0.05
        while True:
            parser, headers = SseParser(), {"Accept": "text/event-stream"}
            if last:
                headers["Last-Event-ID"] = last
            try:
                url = URL(self._url + path, encoded=True)
                async with self._open.get(url, params=filters, headers=headers) as answer:
                    if answer.status in (502, 503, 504):
                        raise aiohttp.ClientPayloadError(f"answered {answer.status}")
                    await _refuse(answer)
                    if answer.status == 204:  # all of the event was told before `after`
                        return
                    async with aclosing(events(answer.content.iter_any(), parser)) as stream:
                        async for item in stream:
                            wait = 0.05
                            if item.event == "closed":  # by the server, which says why; come back
                                break
                            yield _note(plain_json.loads(item.data), item.event)
                            if event and item.event in ("event.completed", "event.unrouted"):
                                return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            last = parser.last_id or last
            await asyncio.sleep(wait * random.random())
            wait = min(LONGEST_WAIT, wait * 2)

    async def run(self, event_type: str, data: Any, *, timeout: float = 30, **attributes: Any) -> Outcome:
        """Publish and wait until every task of the event has ended. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            sent = await self.publish(event_type, data, **attributes)
            ended: dict[str, Note] = {}
            async with aclosing(self.notifications(event=sent.id)) as notes:
                async for note in notes:
                    if note.type in ENDS and note.task:
                        ended[note.task["id"]] = note
            return Outcome(sent.id, list(ended.values()))

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use `async with MeshClient(...) as mesh`")
        return self._session

    async def _post(self, path: str, body: bytes, content_type: str) -> dict[str, Any]:
        wait = 0.05
        for tries in range(1, PUBLISH_TRIES + 1):
            try:
                async with self._open.post(
                    self._url + path, data=body, headers={"Content-Type": content_type}
                ) as answer:
                    if answer.status != 503 or tries == PUBLISH_TRIES:
                        await _refuse(answer)
                        return plain_json.loads(await answer.read())  # type: ignore[no-any-return]
                    wait = float(answer.headers.get("Retry-After", wait))
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
                if tries == PUBLISH_TRIES:
                    raise MeshUnavailable(f"{self._url} cannot be reached: {error}") from error
            await asyncio.sleep(wait * (0.5 + random.random() / 2))
            wait = min(LONGEST_WAIT, wait * 2)
        raise AssertionError("unreachable")

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            async with self._open.get(URL(self._url + path, encoded=True), params=query) as answer:
                await _refuse(answer)
                return plain_json.loads(await answer.read())  # type: ignore[no-any-return]
        except aiohttp.ClientConnectionError as error:
            raise MeshUnavailable(f"{self._url} cannot be reached: {error}") from error


async def _refuse(answer: aiohttp.ClientResponse) -> None:
    if answer.status < 400:
        return
    try:
        problem = plain_json.loads(await answer.read())
    except ValueError:
        problem = {"title": answer.reason}
    if answer.status == 503:
        raise MeshUnavailable(str(problem.get("detail", "the mesh is not available")))
    raise ApiError(answer.status, problem)


def _segment(text: str) -> str:
    """An id as one segment of a path, whatever characters it has."""
    return quote(text, safe="")


def _sent(item: Mapping[str, Any]) -> Sent:
    return Sent(item["id"], item["source"], item["type"], bool(item["duplicate"]))


def _note(value: dict[str, Any], kind: str) -> Note:
    return Note(
        id=value.get("id", ""),
        type=value.get("type", kind),
        time=value.get("time", ""),
        event=value.get("event") or {},  # none where it is about a subscription
        task=value.get("task"),
        data=value.get("data", {}),
    )
