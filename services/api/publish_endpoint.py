"""The hot path: what a request carries becomes events, and the events one script call.

It is called by the door before any framework, and takes bodies apart by itself; the OpenAPI document
describes it through the route in `routes/events.py`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote
from uuid import uuid5

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from streammesh import names
from streammesh.api_keys import ApiKey
from streammesh.errors import EventTooLarge, FieldError, InvalidEvent
from streammesh.events import encoded, envelope
from streammesh.events.encoded import Sealed, seal
from streammesh.events.envelope import BATCH, STRUCTURED, Defaults
from streammesh.events.publisher import Published, publish_call
from streammesh.events.traced import traced
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.shards import shard_of_sealed, stored_in_parts
from streammesh.telemetry import catalogue, spans

from services.api import batch_body, request_body
from services.api.auth import Authenticator, must_publish
from services.api.call_batcher import CallBatcher, OutcomeUnknown
from services.api.limits import RateLimit
from services.api.problems import Problem, unavailable
from services.api.request_body import Headers
from services.api.schemas import Accepted, EventLinks
from services.api.settings import ApiSettings
from services.api.source_rules import SourceRules
from services.api.wait_parameter import seconds_in

ACCEPTED_TYPES = f"{STRUCTURED}, {BATCH}, or application/json"
IDEMPOTENCY_LENGTH = 255
UUID_LENGTH = 36
_PLAIN_ID = re.compile(r"[A-Za-z0-9._~-]+").fullmatch  # the same in a path and in JSON


WhenDone = Callable[[ApiKey, Published, int, float], Awaitable[Response]]  # the number is the shard's


@dataclass(frozen=True, slots=True)
class StoredIn:
    """Where the events of one shard are stored, and by which connection."""

    mesh: MeshSettings
    keys: Keys
    calls: CallBatcher


class PublishEndpoint:
    """Takes events in over HTTP. One instance per process."""

    def __init__(
        self,
        mesh: MeshSettings,
        api: ApiSettings,
        shards: Sequence[StoredIn],
        auth: Authenticator,
        sources: SourceRules,
    ) -> None:
        self._mesh, self._api, self._shards, self._auth = mesh, api, shards, auth
        self._sources, self._rate = sources, RateLimit(api.rate)
        self.when_done: WhenDone | None = None  # answers who waits for an event's end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /v1/events` as an ASGI application. Raises what the door makes problems of."""
        headers = request_body.headers_of(scope)
        authorization = headers.get(b"authorization")
        if spans.is_on():
            spans.remote_parent.set(headers.get(b"traceparent", b"").decode("latin-1"))
        key = self._auth.at_once(authorization) or await self._auth.authenticate(authorization)
        request_body.refuse_encoding(headers)
        media = request_body.media_type(headers)
        limit = self._mesh.max_event_bytes
        if media == BATCH:
            request_body.refuse_charset(headers)
            body = await request_body.read(receive, headers, self._api.max_batch_bytes, "a batch")
            events = await batch_body.read(body, limit)
        else:
            body = await request_body.read(receive, headers, limit, "an event")
            events = [self._single(media, scope, headers, body, key)]
        wait = seconds_in(scope)
        if wait:
            _may_wait(key, media, events)
        published = await self.publish(key, events, len(body)) if events else []
        if wait and self.when_done:
            shard = shard_of_sealed(events[0], len(self._shards))
            response = await self.when_done(key, published[0], shard, wait)
            await response(scope, receive, send)
            return
        answer = ",".join(map(accepted_text, published))
        content = (f'{{"events":[{answer}]}}' if media == BATCH else answer).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 202, "headers": head})
        await send({"type": "http.response.body", "body": content})

    async def publish(self, key: ApiKey, events: Sequence[Sealed], size: int) -> list[Published]:
        """Publish for a key: all or nothing, in one round trip that concurrent requests share.

        Raises Problem (403, 429, 503) and EventConflict.
        """
        types, sources = {event.type for event in events}, {event.source for event in events}
        await self.admit(key, types, sources, len(events))
        return await self.store(events, size)

    async def admit(self, key: ApiKey, types: Collection[str], sources: Collection[str], events: int) -> None:
        """What has to be asked before anything is stored. Raises Problem (403, 429)."""
        for event_type in types:
            must_publish(key, event_type)
        await self._sources.check(key, sources)
        self._rate.spend(key, events)

    async def store(self, events: Sequence[Sealed], size: int) -> list[Published]:
        """As `publish`, for events that were admitted."""
        try:
            with traced(events) as sealed:
                published = await self._stored(sealed, size)
            again = sum(event.duplicate for event in published)
            catalogue.EVENTS_PUBLISHED.inc("stored", by=len(published) - again)
            if again:
                catalogue.EVENTS_PUBLISHED.inc("duplicate", by=again)
            return published
        except OutcomeUnknown:
            catalogue.EVENTS_PUBLISHED.inc("unknown", by=len(events))
            raise unavailable(
                "Redis did not answer, so it is not known whether this was stored. Send it again with the same"
                " id (or Idempotency-Key): it is stored once.",
                **({"id": events[0].id, "source": events[0].source} if len(events) == 1 else {}),
            ) from None

    async def _stored(self, events: Sequence[Sealed], size: int) -> list[Published]:
        if len(self._shards) == 1:
            return await self._stored_in(self._shards[0], events, size)
        numbers = [shard_of_sealed(event, len(self._shards)) for event in events]
        return await stored_in_parts(
            events, numbers, lambda number, part: self._stored_in(self._shards[number], part, size)
        )

    async def _stored_in(self, shard: StoredIn, events: Sequence[Sealed], size: int) -> list[Published]:
        return await shard.calls.run(publish_call(shard.keys, shard.mesh, events), size)

    def _single(self, media: str, scope: Scope, headers: Headers, body: bytes, key: ApiKey) -> Sealed:
        limit = self._mesh.max_event_bytes
        if media == STRUCTURED:
            request_body.refuse_charset(headers)
            return encoded.from_dict(request_body.parse_json(body, limit))
        if not media.startswith("application/cloudevents"):
            if b"ce-type" in headers or b"ce-specversion" in headers or b"ce-id" in headers:
                return _binary(scope, body, limit)
            if media and envelope.is_json(media):
                request_body.refuse_charset(headers)
                return _plain(request_body.parse_json(body, limit), headers, key)
        raise Problem(
            "unsupported-media-type",
            f"Send {ACCEPTED_TYPES}; anything else may be the data of an event whose attributes are in ce-* headers.",
            headers={"accept-post": f"{STRUCTURED}, {BATCH}, application/json"},
        )


def _may_wait(key: ApiKey, media: str, events: Sequence[Sealed]) -> None:
    if media == BATCH:
        raise Problem("malformed-request", "wait: one event can be waited for, not a batch.")
    if not key.may_subscribe(events[0].type):
        raise Problem(
            "forbidden", f"The key {key.name!r} may not read {events[0].type!r}, and so not wait for its end."
        )


def accepted(event: Published) -> Accepted:
    """The 202 body. Ids are unique per source only, so links name the source unless the id is a UUID."""
    path = f"/v1/events/{quote(event.id, safe='')}"
    unique = len(event.id) == UUID_LENGTH and event.id.count("-") == 4
    source = "" if unique else f"?source={quote(event.source, safe='')}"
    links = EventLinks(self=path + source, notifications=f"{path}/notifications{source}")
    return Accepted(id=event.id, source=event.source, type=event.type, duplicate=event.duplicate, links=links)


def accepted_text(event: Published) -> str:
    """`accepted` as JSON; put together from its parts where the id needs no escaping."""
    id = event.id
    if not _PLAIN_ID(id):
        return accepted(event).model_dump_json()
    source, query = _source_texts(event.source)
    if len(id) == UUID_LENGTH and id.count("-") == 4:
        query = ""
    return (
        f'{{"id":"{id}","source":{source},"type":{_text(event.type)},"duplicate":{"true" if event.duplicate else "false"},'
        f'"links":{{"self":"/v1/events/{id}{query}","notifications":"/v1/events/{id}/notifications{query}"}}}}'
    )


@lru_cache(maxsize=1024)
def _text(value: str) -> str:
    return orjson.dumps(value).decode()


@lru_cache(maxsize=1024)
def _source_texts(source: str) -> tuple[str, str]:
    return orjson.dumps(source).decode(), f"?source={quote(source, safe='')}"


def _plain(raw: object, headers: Headers, key: ApiKey) -> Sealed:
    if isinstance(raw, list):
        raise InvalidEvent([FieldError("", f"is an array; send several events with content-type {BATCH}")])
    if isinstance(raw, dict) and raw.get("id") is None and b"idempotency-key" in headers:
        raw["id"] = idempotent_id(key.name, headers[b"idempotency-key"])
    return encoded.from_dict(raw, defaults=Defaults(key.name, datetime.now(UTC)))


def plain_id(scope: Scope, key: ApiKey) -> str | None:
    """The id that an `Idempotency-Key` of this request stands for; None when there is none."""
    header = request_body.headers_of(scope).get(b"idempotency-key")
    return None if header is None else idempotent_id(key.name, header)


def idempotent_id(publisher: str, header: bytes) -> str:
    """The event id that an `Idempotency-Key` of a publisher stands for: the same key, the same id.

    The script that knows events by their identity then does the rest, so nothing else is stored or asked.
    Raises Problem (400) for what cannot be a key.
    """
    value = header.decode("latin-1").strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':  # a string of RFC 9651, as the IETF draft has it
        value = value[1:-1]
    if not value or len(value) > IDEMPOTENCY_LENGTH or not (value.isascii() and value.isprintable()):
        raise Problem(
            "malformed-request",
            f"Idempotency-Key should have 1 to {IDEMPOTENCY_LENGTH} printable ASCII characters.",
            [{"header": "idempotency-key", "detail": "is not a usable key"}],
        )
    return str(uuid5(names.TASK_NAMESPACE, f"idempotency\0{publisher}\0{value}"))


def _binary(scope: Scope, body: bytes, limit: int) -> Sealed:
    attributes = [
        (name.decode("latin-1"), value)
        for name, value in scope["headers"]
        if name.startswith(b"ce-") or name == b"content-type"
    ]
    try:
        return seal(envelope.from_binary(attributes, body, limit), is_parsed=True)
    except EventTooLarge:
        raise request_body.too_large(limit, "an event") from None
    except InvalidEvent as error:
        if error.errors[0].pointer == "":
            raise request_body.of_body(error) from None
        errors = [{"header": f"ce-{e.pointer.removeprefix('/')}", "detail": e.detail} for e in error.errors]
        raise Problem("invalid-event", f"{errors[0]['header']}: {errors[0]['detail']}", errors) from None
