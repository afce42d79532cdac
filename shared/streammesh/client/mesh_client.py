"""`MeshClient`: publish over HTTP, follow notifications that reconnect and resume by themselves, ask, wait, change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from time import monotonic
from types import TracebackType
from typing import Any, Self

from streammesh import names, plain_json
from streammesh.client.addresses import Filter, checked_url, query_of, segment, text_of, texts_of
from streammesh.client.errors import ApiError, InvalidAddress, NotEnded
from streammesh.client.models import (
    Cancelled,
    DeadLetterInfo,
    EventInfo,
    ScheduleInfo,
    StreamChunk,
    TaskInfo,
    TokenInfo,
)
from streammesh.client.outcome import Note, Outcome, OutcomeOf, Sent
from streammesh.client.retry import Patience, Reconnect
from streammesh.client.webhook_calls import WebhookCalls
from streammesh.errors import MeshError, MeshUnavailable

RETRY_FOR = 30.0
SILENCE = 45.0  # three heartbeats of the API
ASKING = 2.0  # for a last question about what has not ended
LONGEST_POLL = 30.0  # seconds of one question with `wait`: proxies end what is quiet for a minute
BATCH = "application/cloudevents-batch+json"


class MeshClient(WebhookCalls):
    """A client of one mesh's API; use it as an async context manager. `SyncMeshClient` is its twin that blocks.

    A call that got no answer, or 408, 429, 500, 502, 503 or 504, is made again for up to `retry_for` seconds (0:
    never), as `Retry-After` says; a publish with the same id, so it takes effect once. One try may take `timeout`
    seconds. A stream of notifications that is silent for `heartbeat_timeout` seconds counts as broken; it is to
    be longer than the API's `API_HEARTBEAT` (15 s). Broken ones are made anew for ever, or until none could be made
    for `reconnect_for` seconds; `on_reconnect` is called each time, and the logger `streammesh.client` told.

    Calls raise ApiError when the API refuses, with its problem document; MeshUnavailable when it cannot be reached
    (ApiUnavailable where something answered 502, 503 or 504); UnexpectedAnswer when something else answers: always
    a MeshError. `api_key` may be a token of `token()`.
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
        self._url, self._source = checked_url(url), source
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise InvalidAddress("the API key has characters that no key has; was it copied whole?")
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._patience = Patience(retry_for, timeout, heartbeat_timeout, reconnect_for)
        self._on_reconnect = on_reconnect

    async def __aenter__(self) -> Self:
        from streammesh.client.connection import ApiConnection  # aiohttp takes a third of a second to load

        self._connection = ApiConnection(self._url, self._headers, self._patience, self._on_reconnect)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End its connections; streams that are followed end with them."""
        if self._connection:
            await self._connection.close()

    # Events

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
        answer = await self._call("POST", "/v1/events", body=plain_json.dumps_plain(body))
        return self._read(Sent.of, answer)

    async def publish_many(self, events: Sequence[Mapping[str, Any]]) -> list[Sent]:
        """Publish events in the JSON event format, all or none: at most 1,000, in one request.

        `id`, `source` and `specversion` are filled in where they are left out, before the first try; so a request
        that is made again stores nothing twice.
        """
        if self._source is None and any("source" not in event for event in events):
            self._source = str((await self.get("/v1/key"))["name"])  # what the API would fill in
        more = {"specversion": "1.0", "source": self._source}
        whole = [{**more, "id": names.new_id(), **event} for event in events]
        body = plain_json.dumps_plain(whole)
        answer = await self._call("POST", "/v1/events", body=body, content_type=BATCH)
        return self._read(lambda found: [Sent.of(item) for item in found["events"]], answer)

    async def event(self, event_id: str, *, source: str | None = None) -> EventInfo:
        """Return the event and everything that came of it. `source` is needed where several used the id."""
        path = f"/v1/events/{segment(event_id)}"
        return self._read(EventInfo.of, await self._call("GET", path, query_of(source=source)))

    def events(
        self,
        *,
        type: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        since: datetime | str | None = None,
        text: str | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Give recent events as they are stored, newest first, page by page. `type`: a type or a glob."""
        query = query_of(type=type, source=source, subject=subject, since=since, text=text)
        return self._pages("/v1/events", query, "events", dict)

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

    async def wait(self, event_id: str, *, source: str | None = None, timeout: float = 30) -> EventInfo:
        """Wait until every task of an event has ended, by long polls; return all that came of it.

        Raises NotEnded, a TimeoutError, when it has not ended after `timeout` seconds.
        """
        until, state = monotonic() + timeout, None
        while (left := until - monotonic()) > 0:
            poll = min(left, LONGEST_POLL)
            query = [*query_of(source=source), ("wait", f"{max(1, int(poll * 1000))}ms")]
            path, allowed = f"/v1/events/{segment(event_id)}", poll + self._patience.timeout
            retry_for = min(left, self._patience.retry_for)
            answer = await self._call("GET", path, query, timeout=allowed, retry_for=retry_for)
            state = self._read(EventInfo.of, answer)
            if state.ended:
                return state
        waiting = self._read(_waiting, state.raw) if state else []
        raise NotEnded(event_id, state.source if state else source or "", timeout, waiting)

    async def waiting_for(self, sent: Sent) -> list[str]:
        """Say of each task of an event that has not ended where it stands; empty where that cannot be asked."""
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(ASKING):
                found = await self.get(f"/v1/events/{segment(sent.id)}", {"source": sent.source})
                return self._read(_waiting, found)
        return []

    def notifications(
        self, *, event: str | None = None, after: str | None = None, **filters: Filter
    ) -> AsyncGenerator[Note, None]:
        """Follow notifications; when the connection breaks, reconnect and go on where it was.

        With `event`, what happened already comes first and the stream ends when the event has ended.
        `filters`: `task`, `type` (a glob, or several of which one has to fit), `service`, `subject`,
        `subject_prefix`, `where` (an expression in CEL), and `since`, a time to begin at; with `event` only `source`, where several sources used
        its id. A note of type `resync` says that history asked for is gone.
        """
        path = f"/v1/events/{segment(event)}/notifications" if event else "/v1/notifications"
        return self._open.follow(path, query_of(**filters), after, ends=event is not None)

    # Tasks

    async def task(self, task_id: str) -> TaskInfo:
        """Return one task."""
        return self._read(TaskInfo.of, await self._call("GET", f"/v1/tasks/{segment(task_id)}"))

    def tasks(
        self,
        *,
        state: str = "open",
        service: str | None = None,
        name: str | None = None,
        type: str | None = None,
    ) -> AsyncGenerator[TaskInfo, None]:
        """Give tasks, newest first, page by page. `state`: one, or `open` or `ended`; `name` and `type`: globs."""
        query = query_of(state=state, service=service, name=name, type=type)
        return self._pages("/v1/tasks", query, "tasks", TaskInfo.of)

    async def cancel(self, task_id: str) -> Cancelled:
        """Cancel a task. Raises ApiError (409) where it has ended otherwise."""
        path = f"/v1/tasks/{segment(task_id)}/cancel"
        try:
            return self._read(Cancelled.of, await self._call("POST", path))
        except ApiError as error:
            if error.status == 409 and error.problem.get("state") == "cancelled":  # by us: an answer was lost
                return Cancelled(task_id, "cancelled", "It has ended.")
            raise

    async def signal(self, task_id: str, data: Any = True, *, name: str = "approval") -> bool:
        """Answer a handler that waits for a signal; return whether this is the answer: the first of its name counts."""
        answer = await self.post(f"/v1/tasks/{segment(task_id)}/signal", {"name": name, "data": data})
        return self._read(lambda found: not found["duplicate"], answer)

    async def stream(
        self, task_id: str, name: str, *, offset: str | None = None
    ) -> AsyncGenerator[StreamChunk, None]:
        """Follow what a task's handler streams, from the beginning or after an offset, until the task has ended.

        When the connection breaks, it reconnects and goes on where it was. A chunk of a higher `epoch` is of another
        attempt, which has begun anew: what came before is void.
        """
        path = f"/v1/tasks/{segment(task_id)}/streams/{segment(name)}"
        async with aclosing(self._open.events(path, None, offset, ("end",))) as items:
            async for item in items:
                if item.event == "chunk":
                    yield self._read(lambda raw: StreamChunk.of(plain_json.loads(raw)), item.data)

    # Dead letters and schedules: to change them needs an admin key

    def dead_letters(
        self,
        *,
        service: str | None = None,
        task: str | None = None,
        type: str | None = None,
        kind: str | None = None,
        reason: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        past: bool = False,
    ) -> AsyncGenerator[DeadLetterInfo, None]:
        """Give work that was given up, newest first, page by page. `task` and `type`: globs.

        `past`: as the history knows them, those too that were replayed or dropped since.
        """
        query = query_of(
            service=service, task=task, type=type, kind=kind, reason=reason, since=since, until=until
        )
        query += query_of(past="true" if past else None)
        return self._pages("/v1/dead-letters", query, "dead_letters", DeadLetterInfo.of)

    async def replay(
        self, ids: Sequence[str], *, rate: float | None = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """Let dead letters be tried again, `rate` a second; return what was done. Each once, however often this is sent."""
        body = {"ids": list(ids), "dry_run": dry_run} | ({} if rate is None else {"rate": rate})
        return await self.post("/v1/dead-letters/replay", body)

    async def drop(self, ids: Sequence[str], *, dry_run: bool = False) -> dict[str, Any]:
        """Remove dead letters for good; return what was done."""
        return await self.post("/v1/dead-letters/drop", {"ids": list(ids), "dry_run": dry_run})

    async def schedules(self) -> list[ScheduleInfo]:
        """Return what is published at set times."""
        answer = await self._call("GET", "/v1/schedules")
        return self._read(lambda found: [ScheduleInfo.of(one) for one in found["schedules"]], answer)

    async def put_schedule(self, name: str, **schedule: Any) -> ScheduleInfo:
        """Store a schedule: `event`, and `cron` or `every`; `timezone`, `misfire`, `window`, `enabled` if wanted."""
        body = plain_json.dumps_plain(schedule)
        answer = await self._call("PUT", f"/v1/schedules/{segment(name)}", body=body)
        return self._read(ScheduleInfo.of, answer)

    async def delete_schedule(self, name: str) -> ScheduleInfo:
        """Delete a schedule; return what it was."""
        return self._read(ScheduleInfo.of, await self._call("DELETE", f"/v1/schedules/{segment(name)}"))

    async def trigger(self, name: str, *, at: datetime | str | None = None) -> Sent:
        """Publish a schedule's tick now; with `at`, not after now, the tick of that time, which is published once.

        Without `at` it is not tried again when an answer is lost: each try would be another tick.
        """
        body = plain_json.dumps_plain({} if at is None else {"at": text_of(at)})
        path, retry_for = f"/v1/schedules/{segment(name)}/trigger", 0 if at is None else None
        return self._read(Sent.of, await self._call("POST", path, body=body, retry_for=retry_for))

    # Tokens

    async def token(
        self,
        types: str | Sequence[str] = ("*",),
        *,
        event: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        task: str | None = None,
        lifetime: str | float = "10m",
    ) -> TokenInfo:
        """Make a token that may be told of a part of what this client's key may: what a browser is given."""
        narrowed = dict(query_of(event=event, source=source, subject=subject, task=task))
        body = plain_json.dumps_plain({"types": texts_of(types), "lifetime": lifetime, **narrowed})
        return self._read(TokenInfo.of, await self._call("POST", "/v1/tokens", body=body))

    # All else

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Ask the API what has no method here, such as `/v1/dead-letters`."""
        return await self._call("GET", path, query_of(**query or {}))

    async def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """Tell the API what has no method here. It may be sent more than once, as a publish is."""
        return await self._call("POST", path, body=plain_json.dumps_plain({} if body is None else body))

    async def patch(self, path: str, body: Any = None) -> dict[str, Any]:
        """Have the API change something. It may be sent more than once, as a publish is."""
        return await self._call("PATCH", path, body=plain_json.dumps_plain({} if body is None else body))

    async def delete(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Have the API remove something. It may be sent more than once, as a publish is."""
        return await self._call("DELETE", path, query_of(**query or {}))

    async def ping(self) -> None:
        """Ask the API whether it is there. Raises MeshUnavailable at once where it is not."""
        await self._call("GET", "/healthz", retry_for=0)


def _waiting(event: Mapping[str, Any]) -> list[str]:
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
