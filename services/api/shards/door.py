"""Leads each request to the shard that it is about, or to all of them, and makes one answer of theirs.

The routes are those of a mesh without shards, and each of them sees one shard's. What is asked by an id goes to the
shard that knows it; lists are asked of all shards at once; what changes a subscription or a service is done in all, one
after the other, so that a request that was made again after a failure does the rest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streammesh.dead_letters import DeadLetters

from services.api.problems import Problem
from services.api.routes.failures import MOST_GROUPS
from services.api.shards import joined_answers
from services.api.shards.joined_answers import AT_ITS_END, Document
from services.api.shards.scope import ECHO, SHARD
from services.api.state import Wiring

T = TypeVar("T")
BODY_BYTES = 1_048_576  # of what is done in every shard
Merge = Callable[[Sequence[Document]], Document]
PAGES = {"/v1/events": "events", "/v1/tasks": "tasks", "/v1/dead-letters": "dead_letters"}
KEYS = re.compile(r"/v1/subscriptions/[^/]+/keys")
MERGED: dict[str, Merge] = {
    "/v1/subscriptions": joined_answers.merged_subscriptions,
    "/v1/services": joined_answers.merged_services,
    "/v1/services/": joined_answers.merged_service,
    "/v1/status": joined_answers.merged_status,
    "/v1/types": joined_answers.merged_types,
    "/v1/types/": joined_answers.merged_type,
}
EVERYWHERE = re.compile(
    r"(POST|PATCH) /v1/subscriptions/[^/]+(/pause|/resume)?|DELETE /v1/services/[^/]+|POST /v1/dead-letters/(replay|drop)"
)
NOTIFICATIONS = "/notifications"
_COUNT = re.compile(r"[1-9][0-9]{0,3}")


class ShardDoor:
    """An ASGI application before that of the routes, for a mesh of several shards."""

    def __init__(self, app: ASGIApp, wirings: Callable[[], Sequence[Wiring]]) -> None:
        self._app, self._wirings = app, wirings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises Problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        deed = f"{method} {path}"
        reads = method in ("GET", "HEAD")
        name = "keys" if KEYS.fullmatch(path) else PAGES.get(path)
        if reads and name is not None:
            await self._page(scope, receive, send, name)
        elif reads and path == "/v1/failures":
            await self._failures(scope, send)
        elif reads and (merge := MERGED.get(_kind(path))) is not None:
            await self._merged(scope, send, merge)
        elif EVERYWHERE.fullmatch(deed):
            await self._everywhere(scope, receive, send)
        else:
            scope[SHARD] = await self._shard_of(path, scope)
            await self._app(scope, receive, send)

    async def _shard_of(self, path: str, scope: Scope) -> int:
        """The shard that knows what a path names; the first one where none does, which says so."""
        raw = (scope.get("raw_path") or path.encode()).decode("latin-1").partition("?")[0]
        if raw.startswith("/v1/events/"):
            id = unquote(raw.removeprefix("/v1/events/").removesuffix(NOTIFICATIONS))
            source = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("source")
            return await self.shard_of_event(id, source)
        if raw.startswith(("/v1/tasks/", "/v1/reports/")):
            id = unquote(raw.split("/")[3])
            if raw.startswith("/v1/reports/"):
                return await self.shard_of_event(id.removesuffix(".pdf"), None)
            return await self._first(lambda wiring: wiring.redis.exists(wiring.keys.task(id)))
        if raw.startswith("/v1/dead-letters/"):
            id = unquote(raw.removeprefix("/v1/dead-letters/"))
            return await self._first(lambda wiring: _has_letter(wiring, id))
        return 0

    async def shard_of_event(self, id: str, source: str | None) -> int:
        """Return the shard that knows an event. Raises Problem (409) where several do, from different sources."""
        found = await self._of_all(
            lambda wiring: _sources(wiring, id),
            enough=lambda sources: bool(sources) and source in (None, *sources),
        )
        known = [
            number
            for number, sources in enumerate(found)
            if sources and (source is None or source in sources)
        ]
        if len(known) > 1 and source is None:
            raise Problem(
                "ambiguous-event",
                "Several sources published an event with this id; pass the one you mean as `?source=`.",
                members={"sources": sorted({one for sources in found for one in sources})[:100]},
            )
        return known[0] if known else 0

    async def _first(self, has: Callable[[Wiring], Any]) -> int:
        found = await self._of_all(lambda wiring: _asked(wiring, has), enough=bool)
        return next((number for number, is_there in enumerate(found) if is_there), 0)

    async def _of_all(
        self, ask: Callable[[Wiring], Awaitable[T]], enough: Callable[[T], bool]
    ) -> list[T | tuple[()]]:
        """What each shard answers; nothing for one that is away, where what the others know is enough.

        Raises MeshUnavailable, where a shard that is away may know what is looked for.
        """
        answers = await asyncio.gather(*map(ask, self._wirings()), return_exceptions=True)
        known = [answer for answer in answers if not isinstance(answer, BaseException)]
        for error in answers:
            if isinstance(error, BaseException) and not any(map(enough, known)):
                raise error
        return [() if isinstance(answer, BaseException) else answer for answer in answers]

    # --- all of them ---------------------------------------------------------------------------

    async def _page(self, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        count = len(self._wirings())
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        cursors, limits = ([value for field, value in asked if field == one] for one in ("cursor", "limit"))
        limit = limits[0] if limits else "50"
        if len(cursors) > 1 or len(limits) > 1 or not _COUNT.fullmatch(limit):
            await self._app(scope, receive, send)  # which refuses it
            return
        try:
            places = joined_answers.split_cursor(cursors[0] if cursors else None, count)
        except ValueError as error:
            wrong = [{"parameter": "cursor", "in": "query", "detail": str(error)}]
            raise Problem("malformed-request", f"The cursor {error}.", wrong) from None
        if all(place == AT_ITS_END for place in places):
            places = [None] * count  # nobody was given such a cursor: begin anew
        asked_all = name == "keys"  # which tells of the subscription as a whole, too
        share = -(-int(limit) // sum(place != AT_ITS_END for place in places))
        rest = [(field, value) for field, value in asked if field not in ("cursor", "limit")]

        def query(place: str | None) -> bytes:
            most = 1 if place == AT_ITS_END else share
            begin = [("cursor", place)] if place and place != AT_ITS_END else []
            return urlencode([*rest, ("limit", str(most)), *begin]).encode()

        pages = await asyncio.gather(
            *(
                self._answer({**scope, SHARD: number, "query_string": query(place)})
                for number, place in enumerate(places)
                if place != AT_ITS_END or asked_all
            )
        )
        if asked_all:
            there = [page.document() if page.status == 200 else None for page in pages]
            await _told(pages, send, lambda _: joined_answers.merged_keys(there, places))
            return
        refused = next((page for page in pages if page.status != 200), None)
        if refused is not None:
            await refused.pass_on(send)
            return
        documents = iter([page.document() for page in pages])
        ordered = [None if place == AT_ITS_END else next(documents) for place in places]
        page = joined_answers.merged_page(name, ordered, is_oldest_first=("order", "oldest") in asked)
        await _send(pages[0], page, send)

    async def _merged(self, scope: Scope, send: Send, merge: Merge) -> None:
        answers = await asyncio.gather(
            *(self._answer({**scope, SHARD: number}) for number in range(len(self._wirings())))
        )
        await _told(answers, send, merge)

    async def _failures(self, scope: Scope, send: Send) -> None:
        """All groups of each shard, since what is rare in each may be frequent in all."""
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        limits = [value for field, value in asked if field == "limit"] or ["50"]
        if len(limits) == 1 and _COUNT.fullmatch(limits[0]) and int(limits[0]) <= MOST_GROUPS:
            rest = [pair for pair in asked if pair[0] != "limit"]
            query = urlencode([*rest, ("limit", str(MOST_GROUPS))]).encode()
            scope = {**scope, "query_string": query}
        most = int(limits[0]) if limits[0].isdigit() else 0  # else it is refused
        await self._merged(scope, send, lambda found: joined_answers.merged_failures(found, most))

    async def _everywhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        answers: list[_Answer] = []
        for number in range(len(self._wirings())):
            about = {**scope, SHARD: number, ECHO: number > 0}
            answers.append(await self._answer(about, body))
            if answers[-1].status >= 400 and answers[-1].status != 404:
                break
        await _told(answers, send, joined_answers.summed)

    async def _answer(self, scope: Scope, body: bytes = b"") -> _Answer:
        answer, told = _Answer(), False

        async def receive() -> Message:
            nonlocal told
            if told:
                await asyncio.Event().wait()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app({**scope, "extensions": {}}, receive, answer.take)
        return answer


class _Answer:
    """What the routes answered for one shard."""

    def __init__(self) -> None:
        self.status, self.headers, self._body = 0, list[tuple[bytes, bytes]](), bytearray()

    async def take(self, message: Message) -> None:
        """Be told a part of it."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        else:
            self._body += message.get("body", b"")

    def document(self) -> Document:
        """Return what it says."""
        document: Document = orjson.loads(self._body)
        return document

    async def pass_on(self, send: Send) -> None:
        """Answer with it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": bytes(self._body)})


def _kind(path: str) -> str:
    """A path as it stands in MERGED: without the name that it ends with, where it has one."""
    for parent in ("/v1/services/", "/v1/types/"):
        if path.startswith(parent) and path != parent:
            return parent
    return path


async def _told(answers: Sequence[_Answer], send: Send, merge: Merge) -> None:
    """Answer with all of them as one, or with what one of them refuses; what only some know is not refused."""
    refused = [answer for answer in answers if answer.status >= 300]
    there = [answer for answer in answers if answer.status < 300]
    wrong = next((answer for answer in refused if answer.status != 404 or not there), None)
    if wrong is not None:
        await wrong.pass_on(send)
        return
    like = max(there, key=lambda answer: answer.status)  # 202 where one of them has not come to its end
    await _send(like, merge([answer.document() for answer in there]), send)


async def _send(like: _Answer, document: Document, send: Send) -> None:
    content = orjson.dumps(document)
    headers = [(name, value) for name, value in like.headers if name != b"content-length"]
    headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": like.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > BODY_BYTES:
            raise Problem("body-too-large", f"The body has more than {BODY_BYTES:,} bytes.")
        if not message.get("more_body"):
            return bytes(body)


async def _asked(wiring: Wiring, has: Callable[[Wiring], Any]) -> bool:
    async with wiring.reading():
        return bool(await has(wiring))


async def _sources(wiring: Wiring, id: str) -> list[str]:
    async with wiring.reading():
        return [row.source for row in await wiring.rows.events(id)]


async def _has_letter(wiring: Wiring, id: str) -> bool:
    return await DeadLetters(wiring.redis, wiring.keys).get(id) is not None
