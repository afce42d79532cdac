"""`SyncMeshClient`: the same client for programs that block: scripts, Django, Flask, a shell.

Each call is made by a `MeshClient` on an event loop of its own, in a thread that begins with the first call. So
there is one way in which calls are retried and streams are resumed, and any number of threads may share a client.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, Unpack

from streammesh.client.addresses import Filter
from streammesh.client.mesh_client import MeshClient
from streammesh.client.models import (
    Cancelled,
    DeadLetterInfo,
    EventInfo,
    ScheduleInfo,
    StreamChunk,
    TaskInfo,
    TokenInfo,
)
from streammesh.client.outcome import Note, Outcome, Sent
from streammesh.client.webhook_models import (
    NewWebhookSecret,
    WebhookAttempt,
    WebhookChanges,
    WebhookDeliveries,
    WebhookInfo,
)

CLOSING_SECONDS = 5.0
T = TypeVar("T")
_END: Any = object()


class _Running(NamedTuple):
    """The thread of one process, its loop, and the client on it."""

    process: int
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    mesh: MeshClient


class SyncMeshClient:
    """Takes what `MeshClient` takes, and has its methods; they block, and lists and streams are generators.

    It may be made once for the whole program, also before a server forks its workers: each process opens
    connections of its own at its first call. Use it in a `with`, or close it; else it ends with the process.
    """

    def __init__(self, url: str, *, api_key: str, **options: Any) -> None:
        self._made: Callable[[], MeshClient] = lambda: MeshClient(url, api_key=api_key, **options)
        self._made()  # what cannot be is refused here
        self._locks: dict[
            int, threading.Lock
        ] = {}  # by process: one that was held at a fork is held for ever
        self._runs: dict[
            int, _Running
        ] = {}  # by process: those of a parent are its own, and not to be collected
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its connections and its thread. Calls of other threads that are under way end with RuntimeError."""
        self._closed = True
        with self._lock:
            running = self._runs.pop(os.getpid(), None)
        if running:
            _end(running)

    # Events

    def publish(
        self,
        event_type: str,
        data: Any,
        *,
        id: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        **extensions: str | int | bool,
    ) -> Sent:
        """As `MeshClient.publish`."""
        named: dict[str, Any] = {"id": id, "source": source, "subject": subject, **extensions}
        return self._do(lambda mesh: mesh.publish(event_type, data, **named))

    def publish_many(self, events: Sequence[Mapping[str, Any]]) -> list[Sent]:
        """As `MeshClient.publish_many`."""
        return self._do(lambda mesh: mesh.publish_many(events))

    def event(self, event_id: str, *, source: str | None = None) -> EventInfo:
        """As `MeshClient.event`."""
        return self._do(lambda mesh: mesh.event(event_id, source=source))

    def events(
        self,
        *,
        type: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        since: datetime | str | None = None,
        text: str | None = None,
    ) -> Generator[dict[str, Any], None, None]:
        """As `MeshClient.events`."""
        return self._each(
            lambda mesh: mesh.events(type=type, source=source, subject=subject, since=since, text=text)
        )

    def run(self, event_type: str, data: Any, *, timeout: float = 30, **attributes: Any) -> Outcome:
        """As `MeshClient.run`."""
        return self._do(lambda mesh: mesh.run(event_type, data, timeout=timeout, **attributes))

    def wait(self, event_id: str, *, source: str | None = None, timeout: float = 30) -> EventInfo:
        """As `MeshClient.wait`."""
        return self._do(lambda mesh: mesh.wait(event_id, source=source, timeout=timeout))

    def waiting_for(self, sent: Sent) -> list[str]:
        """As `MeshClient.waiting_for`."""
        return self._do(lambda mesh: mesh.waiting_for(sent))

    def notifications(
        self, *, event: str | None = None, after: str | None = None, **filters: Filter
    ) -> Generator[Note, None, None]:
        """As `MeshClient.notifications`."""
        return self._each(lambda mesh: mesh.notifications(event=event, after=after, **filters))

    # Tasks

    def task(self, task_id: str) -> TaskInfo:
        """As `MeshClient.task`."""
        return self._do(lambda mesh: mesh.task(task_id))

    def tasks(
        self,
        *,
        state: str = "open",
        service: str | None = None,
        name: str | None = None,
        type: str | None = None,
    ) -> Generator[TaskInfo, None, None]:
        """As `MeshClient.tasks`."""
        return self._each(lambda mesh: mesh.tasks(state=state, service=service, name=name, type=type))

    def cancel(self, task_id: str) -> Cancelled:
        """As `MeshClient.cancel`."""
        return self._do(lambda mesh: mesh.cancel(task_id))

    def signal(self, task_id: str, data: Any = True, *, name: str = "approval") -> bool:
        """As `MeshClient.signal`."""
        return self._do(lambda mesh: mesh.signal(task_id, data, name=name))

    def stream(
        self, task_id: str, name: str, *, offset: str | None = None
    ) -> Generator[StreamChunk, None, None]:
        """As `MeshClient.stream`."""
        return self._each(lambda mesh: mesh.stream(task_id, name, offset=offset))

    # Dead letters and schedules

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
    ) -> Generator[DeadLetterInfo, None, None]:
        """As `MeshClient.dead_letters`."""
        asked: dict[str, Any] = {"service": service, "task": task, "type": type, "kind": kind}
        asked |= {"reason": reason, "since": since, "until": until, "past": past}
        return self._each(lambda mesh: mesh.dead_letters(**asked))

    def replay(
        self, ids: Sequence[str], *, rate: float | None = None, dry_run: bool = False
    ) -> dict[str, Any]:
        """As `MeshClient.replay`."""
        return self._do(lambda mesh: mesh.replay(ids, rate=rate, dry_run=dry_run))

    def drop(self, ids: Sequence[str], *, dry_run: bool = False) -> dict[str, Any]:
        """As `MeshClient.drop`."""
        return self._do(lambda mesh: mesh.drop(ids, dry_run=dry_run))

    def schedules(self) -> list[ScheduleInfo]:
        """As `MeshClient.schedules`."""
        return self._do(lambda mesh: mesh.schedules())

    def put_schedule(self, name: str, **schedule: Any) -> ScheduleInfo:
        """As `MeshClient.put_schedule`."""
        return self._do(lambda mesh: mesh.put_schedule(name, **schedule))

    def delete_schedule(self, name: str) -> ScheduleInfo:
        """As `MeshClient.delete_schedule`."""
        return self._do(lambda mesh: mesh.delete_schedule(name))

    def trigger(self, name: str, *, at: datetime | str | None = None) -> Sent:
        """As `MeshClient.trigger`."""
        return self._do(lambda mesh: mesh.trigger(name, at=at))

    # Webhooks

    def create_webhook(
        self,
        url: str,
        types: str | Sequence[str] = (),
        *,
        description: str = "",
        event: str | None = None,
        task: str | None = None,
        service: str | None = None,
        subject: str | None = None,
        where: str | None = None,
        ordered: bool = False,
        enabled: bool = True,
    ) -> WebhookInfo:
        """As `MeshClient.create_webhook`."""
        asked: dict[str, Any] = {"event": event, "task": task, "service": service, "subject": subject}
        asked |= {"where": where, "description": description, "ordered": ordered, "enabled": enabled}
        return self._do(lambda mesh: mesh.create_webhook(url, types, **asked))

    def webhooks(self) -> list[WebhookInfo]:
        """As `MeshClient.webhooks`."""
        return self._do(lambda mesh: mesh.webhooks())

    def webhook(self, webhook_id: str) -> WebhookInfo:
        """As `MeshClient.webhook`."""
        return self._do(lambda mesh: mesh.webhook(webhook_id))

    def update_webhook(self, webhook_id: str, **changes: Unpack[WebhookChanges]) -> WebhookInfo:
        """As `MeshClient.update_webhook`."""
        return self._do(lambda mesh: mesh.update_webhook(webhook_id, **changes))

    def delete_webhook(self, webhook_id: str) -> WebhookInfo:
        """As `MeshClient.delete_webhook`."""
        return self._do(lambda mesh: mesh.delete_webhook(webhook_id))

    def rotate_webhook_secret(self, webhook_id: str, *, overlap: str | float = "24h") -> NewWebhookSecret:
        """As `MeshClient.rotate_webhook_secret`."""
        return self._do(lambda mesh: mesh.rotate_webhook_secret(webhook_id, overlap=overlap))

    def webhook_attempts(self, webhook_id: str) -> Generator[WebhookAttempt, None, None]:
        """As `MeshClient.webhook_attempts`."""
        return self._each(lambda mesh: mesh.webhook_attempts(webhook_id))

    def replay_webhook(
        self,
        webhook_id: str,
        *,
        since: datetime | str | None = None,
        after: str | None = None,
        notifications: Sequence[str] | None = None,
    ) -> WebhookDeliveries:
        """As `MeshClient.replay_webhook`."""
        asked: dict[str, Any] = {"since": since, "after": after, "notifications": notifications}
        return self._do(lambda mesh: mesh.replay_webhook(webhook_id, **asked))

    def test_webhook(self, webhook_id: str) -> WebhookDeliveries:
        """As `MeshClient.test_webhook`."""
        return self._do(lambda mesh: mesh.test_webhook(webhook_id))

    # Tokens, and all else

    def token(
        self,
        types: str | Sequence[str] = ("*",),
        *,
        event: str | None = None,
        source: str | None = None,
        subject: str | None = None,
        task: str | None = None,
        lifetime: str | float = "10m",
    ) -> TokenInfo:
        """As `MeshClient.token`."""
        narrowed: dict[str, Any] = {"event": event, "source": source, "subject": subject, "task": task}
        return self._do(lambda mesh: mesh.token(types, lifetime=lifetime, **narrowed))

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """As `MeshClient.get`."""
        return self._do(lambda mesh: mesh.get(path, query))

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """As `MeshClient.post`."""
        return self._do(lambda mesh: mesh.post(path, body))

    def patch(self, path: str, body: Any = None) -> dict[str, Any]:
        """As `MeshClient.patch`."""
        return self._do(lambda mesh: mesh.patch(path, body))

    def delete(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """As `MeshClient.delete`."""
        return self._do(lambda mesh: mesh.delete(path, query))

    def ping(self) -> None:
        """As `MeshClient.ping`."""
        return self._do(lambda mesh: mesh.ping())

    # How a call is made

    def _do(self, work: Callable[[MeshClient], Coroutine[Any, Any, T]]) -> T:
        running = self._own()
        if threading.current_thread() is running.thread:
            raise RuntimeError("`on_reconnect` may not make calls of the client that calls it")
        future = asyncio.run_coroutine_threadsafe(work(running.mesh), running.loop)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the client was closed") from None
        except BaseException:  # Ctrl-C in whoever waits, too
            future.cancel()
            raise

    def _each(self, begin: Callable[[MeshClient], AsyncGenerator[T, None]]) -> Generator[T, None, None]:
        source = begin(self._own().mesh)

        async def following(_: MeshClient) -> T:
            return await anext(source, _END)

        async def end(_: MeshClient) -> None:
            await source.aclose()

        try:
            while (found := self._do(following)) is not _END:
                yield found
        finally:
            with suppress(RuntimeError):  # it was closed
                self._do(end)

    @property
    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _own(self) -> _Running:
        """Return what runs in this process; begun where nothing does."""
        process = os.getpid()
        if (running := self._runs.get(process)) is not None:
            return running
        with self._lock:
            if self._closed:
                raise RuntimeError("the client was closed")
            if (running := self._runs.get(process)) is None:
                loop, mesh = asyncio.new_event_loop(), self._made()
                thread = threading.Thread(target=loop.run_forever, name="streammesh-client", daemon=True)
                thread.start()
                asyncio.run_coroutine_threadsafe(mesh.__aenter__(), loop).result()
                running = self._runs[process] = _Running(process, loop, thread, mesh)
                weakref.finalize(self, _end, running)  # with the client, or with the process
        return running


def _end(running: _Running) -> None:
    """Close what runs in this process; once."""
    if running.process != os.getpid() or running.loop.is_closed():
        return
    with suppress(Exception):
        asyncio.run_coroutine_threadsafe(_close(running.mesh), running.loop).result(CLOSING_SECONDS)
    running.loop.call_soon_threadsafe(running.loop.stop)
    running.thread.join(CLOSING_SECONDS)
    if not running.thread.is_alive():
        running.loop.close()


async def _close(mesh: MeshClient) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await mesh.close()
