"""Several followers over one WebSocket (RFC 6455): subscribe and unsubscribe, resume, heartbeats.

Every message is a JSON object with a `type`. Positions are those of the server-sent events, so a client may change
from one to the other. What is sent waits for the client, `stall` seconds at most, and a follower that falls behind is
cut off, as there. A quiet connection has the one task that listens to its client; what sends lives while there is
something to be sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from streammesh.api_keys import ApiKey
from streammesh.cel.syntax import LONGEST as LONGEST_WHERE
from streammesh.errors import MeshUnavailable
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.names import TYPE_LENGTH
from streammesh.notifications import Filter

from services.api import problems
from services.api.parameters import position_since, whole_position, whole_where
from services.api.problems import Problem
from services.api.push.follower import BUFFER, REVOKED, SLOW, STOPPING, UNAVAILABLE, Follower
from services.api.push.hub import Hub
from services.api.push.told import Missed, Stretch, Told
from services.api.shards.joined_answers import joined_position
from services.api.shards.stream import positions_of
from services.api.sse import reason_of
from services.api.state import Wiring
from services.api.tokens import Token

MESSAGE_BYTES = 16_384  # of a client's message; the server closes at a larger one
MOST_SUBSCRIPTIONS = 50
MOST_ERRORS = 20
FIRST_SECONDS = 10.0  # in which a client that sends no header says who it is
UNAUTHORIZED, FORBIDDEN, TIMEOUT = 3000, 3003, 3008  # IANA's registry of close codes
POLICY, GOING_AWAY, TRY_AGAIN = 1008, 1001, 1013
Word = Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE)]
MOST_GLOBS = 20
Glob = Annotated[str, Field(min_length=1, max_length=TYPE_LENGTH)]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class Authorize(BaseModel):
    """The first message of a client that cannot send a header: a token, or a key."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["authorize"]
    token: Annotated[str, Field(min_length=1, max_length=MAX_ATTRIBUTE * 4)]


class Subscribe(BaseModel):
    """Be told from now on, or from after a position, of what fits; `id` is the client's name for it."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["subscribe"]
    id: Name
    event: Word | None = None
    task: Word | None = None
    glob: Glob | Annotated[list[Glob], Field(min_length=1, max_length=MOST_GLOBS)] | None = Field(
        None,
        description="Glob over the notification's type or the event's, as `type` of GET /v1/notifications, or several.",
    )
    service: Word | None = None
    subject: Word | None = None
    subject_prefix: Word | None = None
    where: Annotated[str, Field(min_length=1, max_length=LONGEST_WHERE)] | None = Field(
        None, description="An expression in CEL over the notification, as `where` of GET /v1/notifications."
    )
    after: Annotated[str, Field(max_length=64)] | None = None
    since: AwareDatetime | None = None


class Unsubscribe(BaseModel):
    """Be told no more."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["unsubscribe"]
    id: Name


_MESSAGE: TypeAdapter[Authorize | Subscribe | Unsubscribe] = TypeAdapter(
    Annotated[Authorize | Subscribe | Unsubscribe, Field(discriminator="type")]
)


class Leave(Exception):
    """The connection is to be closed."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class SocketSession:
    """One connection, from its opening to its end."""

    def __init__(self, socket: WebSocket, wirings: Sequence[Wiring], token: str | None = None) -> None:
        self._socket, self._wirings, self._wiring, self._token = socket, wirings, wirings[0], token
        self._open: dict[str, _Subscription] = {}
        self._sending, self._stall = asyncio.Lock(), wirings[0].api.stall.total_seconds()
        self._errors = 0
        self._leave: asyncio.Future[Leave] = asyncio.get_running_loop().create_future()
        self._waiting: deque[bytes] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve it until either side ends it. Nothing of it is left then."""
        await self._socket.accept()
        listening = asyncio.create_task(self._listen())
        ends: set[asyncio.Future[Any]] = {listening, self._leave}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._leave.done():
                leave = self._leave.result()
            else:
                await listening
                return
        except Leave as said:
            leave = said
        except (WebSocketDisconnect, TimeoutError):
            return
        finally:
            listening.cancel()
            for name in list(self._open):
                self._end(name)
            if self._sender is not None:
                self._sender.cancel()
            await asyncio.gather(listening, *filter(None, [self._sender]), return_exceptions=True)
        if self._socket.client_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect):  # the client closed it in this very moment
                await self._socket.close(leave.code, leave.reason[:120])

    async def _listen(self) -> None:
        key = await self._authenticate()
        await self._send({"type": "welcome", "key": key.name})
        while True:
            message = await self._receive()
            if message is None:
                continue
            try:
                if isinstance(message, Subscribe):
                    await self._subscribe(key, message)
                elif isinstance(message, Unsubscribe):
                    if message.id not in self._open:
                        await self._wrong(f"there is no subscription {message.id!r}", message.id)
                    else:
                        self._end(message.id)
                        await self._send({"type": "unsubscribed", "id": message.id})
                else:
                    await self._wrong("this connection is authorized already")
            except Problem as problem:
                await self._wrong(problem.detail, message.id if not isinstance(message, Authorize) else None)
            except MeshUnavailable:
                raise Leave(TRY_AGAIN, reason_of(UNAVAILABLE)) from None

    async def _authenticate(self) -> ApiKey:
        header = self._socket.headers.get("authorization")
        if header is not None and self._token is not None:
            raise Leave(UNAUTHORIZED, "send either `authorization` or `token`, not both")
        try:
            if header is not None:
                return await self._wiring.auth.authenticate(header.encode("latin-1"))
            token = self._token
            if token is None:
                async with asyncio.timeout(FIRST_SECONDS):
                    first = await self._receive()
                if not isinstance(first, Authorize):
                    raise Leave(UNAUTHORIZED, 'the first message is {"type": "authorize", "token": ...}')
                token = first.token
            key = await self._wiring.auth.authenticate(b"Bearer " + token.encode("utf-8", "replace"))
            if self._token is not None and not isinstance(key, Token):
                raise Leave(
                    FORBIDDEN, "`token` takes a token of POST /v1/tokens; a key is sent in the first message"
                )
            return key
        except TimeoutError:
            raise Leave(TIMEOUT, f"nothing said within {FIRST_SECONDS:.0f} s who it is") from None
        except Problem as problem:
            raise Leave(UNAUTHORIZED, problem.detail) from None
        except MeshUnavailable:
            raise Leave(TRY_AGAIN, reason_of(UNAVAILABLE)) from None

    async def _receive(self) -> Authorize | Subscribe | Unsubscribe | None:
        raw = await self._socket.receive()
        if raw["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(raw.get("code", 1005))
        text = raw.get("text")
        if text is None:
            await self._wrong("send JSON as text, not as bytes")
            return None
        try:
            return _MESSAGE.validate_json(text)
        except ValidationError as error:
            first = problems.of_validation(error, tagged=True).detail
            await self._wrong(first)
        return None

    async def _wrong(self, detail: str, name: str | None = None) -> None:
        self._errors += 1
        said: dict[str, Any] = {"type": "error", "detail": detail}
        await self._send(said if name is None else {**said, "id": name})
        if self._errors >= MOST_ERRORS:
            raise Leave(POLICY, f"{MOST_ERRORS} messages were wrong")

    async def _subscribe(self, key: ApiKey, wanted: Subscribe) -> None:
        if wanted.id in self._open:
            raise Problem(
                "malformed-request", f"there is a subscription {wanted.id!r} already; unsubscribe it first"
            )
        if len(self._open) >= MOST_SUBSCRIPTIONS:
            raise Problem(
                "too-many-requests", f"there are {MOST_SUBSCRIPTIONS} subscriptions on this connection"
            )
        hubs = [wiring.hub for wiring in self._wirings]
        after = whole_position("after", wanted.after, len(hubs)) if wanted.after else None
        wish = Filter(
            event=wanted.event,
            task=wanted.task,
            types=(wanted.glob,) if isinstance(wanted.glob, str) else tuple(wanted.glob or ()),
            service=wanted.service,
            subject=wanted.subject,
            subject_prefix=wanted.subject_prefix,
            where=whole_where(wanted.where),
        )
        followers: list[tuple[Hub, Follower]] = []
        try:
            for hub in hubs:
                followers.append((hub, hub.open(key, wish)))
            newest = await asyncio.gather(*(hub.ensure_reading() for hub in hubs))
            if after is None and wanted.since:
                places = [position_since(wanted.since, last) for last in newest]
            else:
                places = positions_of("after", after, newest)
            await self._send({"type": "subscribed", "id": wanted.id, "position": joined_position(places)})
        except BaseException:
            for hub, follower in followers:
                hub.close(follower)
            raise
        self._open[wanted.id] = subscription = _Subscription(self, wanted.id, followers, places)
        for number, ((hub, follower), place) in enumerate(zip(followers, places, strict=True)):
            hub.connect(follower, _Part(subscription, number))
            if not follower.ended:
                hub.follow(follower, place)

    def _end(self, name: str) -> None:
        self._open.pop(name).end()

    @property
    def is_free(self) -> bool:
        """Whether it takes more to be sent."""
        return len(self._waiting) < BUFFER

    def put(self, message: bytes) -> None:
        """Send it when what was put before is sent."""
        self._waiting.append(message)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_what_waits())

    async def _send_what_waits(self) -> None:
        try:
            while self._waiting:
                await self._send_bytes(self._waiting.popleft())
                if not self._waiting:
                    for subscription in list(self._open.values()):
                        subscription.flush()
            self._sender = None
        except TimeoutError:
            self.go(SLOW)
        except WebSocketDisconnect:
            pass  # whoever listens hears of it, too

    def go(self, why: str) -> None:
        """Close the connection, and say why."""
        code = {REVOKED: UNAUTHORIZED, STOPPING: GOING_AWAY}.get(why, TRY_AGAIN)
        if not self._leave.done():
            self._leave.set_result(Leave(code, reason_of(why)))

    async def _send(self, value: dict[str, Any]) -> None:
        await self._send_bytes(orjson.dumps(value))

    async def _send_bytes(self, text: bytes) -> None:
        async with self._sending, asyncio.timeout(self._stall):
            try:
                await self._socket.send({"type": "websocket.send", "text": text.decode()})
            except RuntimeError:  # the server has answered the client's close, which is not read here yet
                raise WebSocketDisconnect(1006) from None


class _Subscription:
    """What the client follows under one name: a follower in each shard, and how far each is."""

    __slots__ = ("_followers", "_name", "_places", "_session")

    def __init__(
        self,
        session: SocketSession,
        name: str,
        followers: Sequence[tuple[Hub, Follower]],
        places: Sequence[str],
    ) -> None:
        self._session, self._name = session, orjson.dumps(name)
        self._followers, self._places = followers, list(places)

    @property
    def is_free(self) -> bool:
        """Whether the connection takes more."""
        return self._session.is_free

    def flush(self) -> None:
        """Have all followers hand over what waits."""
        for _, follower in self._followers:
            follower.flush()

    def end(self) -> None:
        """Follow no more."""
        for hub, follower in self._followers:
            hub.close(follower)

    def tell(self, number: int, told: Told | Missed) -> None:
        """Send what one shard tells."""
        if isinstance(told, Missed):
            after = joined_position([*self._places[:number], told.after, *self._places[number + 1 :]])
            self._session.put(b'{"type":"resync","id":%b,"after":%b}' % (self._name, orjson.dumps(after)))
            return
        self._places[number] = told.note.id
        position, json = told.note.id, told.json
        if len(self._places) > 1:
            position = joined_position(self._places)
            json = replace(told.note, id=position).to_json()
        self._session.put(
            b'{"type":"notification","id":%b,"position":"%b","notification":%b}'
            % (self._name, position.encode(), json)
        )

    def beat(self, number: int, position: str) -> None:
        """Show that the subscription lives, and how far it is; the first shard does it for all."""
        self._places[number] = position
        if number == 0:
            places = [position, *(hub.resume_position(follower) for hub, follower in self._followers[1:])]
            text = joined_position(places).encode()
            self._session.put(b'{"type":"heartbeat","id":%b,"position":"%b"}' % (self._name, text))

    def close(self, why: str) -> None:
        """Nothing more comes: the connection is closed."""
        self._session.go(why)


class _Part:
    """The outlet of one shard's follower."""

    __slots__ = ("_number", "_subscription")

    def __init__(self, subscription: _Subscription, number: int) -> None:
        self._subscription, self._number = subscription, number

    @property
    def free(self) -> bool:
        """Whether the connection takes more."""
        return self._subscription.is_free

    def tell(self, told: Told | Missed) -> None:
        """Send one."""
        self._subscription.tell(self._number, told)

    def tell_stretch(self, stretch: Stretch) -> None:
        """Send many."""
        for told in stretch.told:
            self.tell(told)

    def beat(self, position: str) -> None:
        """Show that the subscription lives, and how far it is."""
        self._subscription.beat(self._number, position)

    def close(self, why: str) -> None:
        """Nothing more comes: the connection is closed."""
        self._subscription.close(why)

    def hurry(self) -> None:
        """Give up what the client does not take."""
        self._subscription.close(REVOKED)
