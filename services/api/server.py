"""uvicorn, with what it lacks for a door to the outside: limits on a request's head, problem documents from the
parser, a way to drop a connection, and streams that end before it waits for connections to close.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from services.api.middleware import UNREAD, Door
from services.api.problems import MEDIA_TYPE, Problem
from services.api.settings import ApiSettings
from services.api.sse import ABORT, WIRE, SseOutlet
from services.api.web_socket import MESSAGE_BYTES

log = structlog.get_logger(__name__)

HEAD_BYTES = 65_536  # of request line and headers; more is refused while it arrives
FILES_BESIDE = 256  # for Redis, logs, reports and what waits to be accepted
MOST_FILES = 1 << 20
LINGER_BYTES = 1 << 20
LINGER_SECONDS = 2  # what a client sends after its answer is taken and dropped for so long
STALL_SECONDS = 30  # a client that takes nothing of an answer for so long is disconnected
HEAD_SECONDS = 20  # a client that has not said by then what it wants is disconnected


class LingeringTransport:
    """A connection's transport, whose end has a time limit too.

    A client that is still sending when it has its answer would lose the answer with a connection that is closed
    at once (RFC 9112, 9.6): what it sends is taken and dropped for a moment.
    """

    def __init__(self, real: asyncio.Transport, protocol: Protocol) -> None:
        self._real, self._protocol = real, protocol
        self.write = real.write
        self.closing: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def is_closing(self) -> bool:
        """Whether the connection was given up."""
        return self.closing is not None or self._real.is_closing()

    def close(self) -> None:
        """Send what waits to be sent, then close."""
        if self.closing is not None or self._real.is_closing():
            return
        lingers = self._protocol.body_is_coming and self._real.can_write_eof()
        loop = self._protocol.loop
        self.closing = loop.call_later(LINGER_SECONDS if lingers else STALL_SECONDS, self._real.abort)
        if lingers:
            self._real.write_eof()
            self._real.resume_reading()
        else:
            self._real.close()


class Protocol(HttpToolsProtocol):
    """One connection. The parser keeps what it cannot hand on yet, so what a head may cost is counted here."""

    _unseen_bytes = 0  # of a head, of chunks' extensions or of trailers, since the parser handed something on
    _in_head = True
    _handed_on = False  # whether the parser handed something on of what came just now
    _patience: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _outlet: SseOutlet | None = None  # of the stream that goes over this connection now

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(LingeringTransport(transport, self))  # type: ignore[arg-type]
        self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        outlet, self._outlet = self._outlet, None
        if outlet is not None:
            outlet.lost()
        self._heard_out()
        self.resume_writing()
        closing: asyncio.TimerHandle | None = self.transport.closing  # type: ignore[attr-defined]
        if closing is not None:
            closing.cancel()
        super().connection_lost(exc)

    @property
    def body_is_coming(self) -> bool:
        """Whether the client is in the middle of a request."""
        if self._in_head:
            return self._unseen_bytes > 0
        return self.cycle is not None and self.cycle.more_body

    def on_response_complete(self) -> None:
        self._outlet = None
        super().on_response_complete()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unseen_bytes, self._in_head = 0, True
        extensions = {ABORT: {"call": self._drop}, WIRE: {"call": self._stream}}
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def on_header(self, name: bytes, value: bytes) -> None:
        if (
            self._in_head
        ):  # what comes after the body is a trailer: bounded as all that is unseen, and no header
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._handed_on = False, True
        self._heard_out()
        super().on_headers_complete()
        cycle = self.cycle
        self.scope["extensions"][UNREAD] = {"call": lambda: cycle.more_body}

    def on_body(self, body: bytes) -> None:
        self._handed_on = True
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            self._unseen_bytes += len(data)
            if self._unseen_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        self._handed_on = False
        super().data_received(data)
        self._unseen_bytes = 0 if self._handed_on else self._unseen_bytes + len(data)
        if self.parser is None or self.transport.is_closing():
            return
        if self._in_head or self.cycle is None or not (self.cycle.more_body or self._is_busy):
            # Between two requests too: an empty line says nothing, and may not keep a connection for ever.
            if self._patience is None:
                self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        elif not self.cycle.more_body:
            self._unseen_bytes = 0
        if self._unseen_bytes > HEAD_BYTES:
            self._refuse(Problem("headers-too-large", f"At most {HEAD_BYTES:,} bytes are allowed."))

    def eof_received(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()

    def pause_writing(self) -> None:
        if self._stalled is None:
            stall = STALL_SECONDS if self._outlet is None else self._outlet.stall
            self._stalled = self.loop.call_later(stall, self._drop)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()
        if self._outlet is not None:
            self._outlet.resumed()

    def _stream(self, outlet: SseOutlet) -> Protocol | None:
        """Tell this stream from now on whether the client takes what it writes; None where the client is gone."""
        if self.transport.is_closing() or not self._is_busy or self.cycle.disconnected:
            return None
        self._outlet = outlet
        return self

    @property
    def is_free(self) -> bool:
        """Whether the client has taken nearly all that was written to it."""
        return not self.flow.write_paused

    def write_chunk(self, data: bytes) -> None:
        """Write a piece of a stream's body."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def hurry(self, seconds: float) -> None:
        """Drop the connection after so long if the client has not taken by then what was written."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = self.loop.call_later(seconds, self._drop)

    def handle_websocket_upgrade(self) -> None:
        if self.scope["method"] != "GET":
            self._refuse(Problem("malformed-request", "A WebSocket is opened by GET."))
            return
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("malformed-request", msg))

    @property
    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _heard_out(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _too_slow(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self._refuse(Problem("too-slow", f"The request did not arrive within {HEAD_SECONDS} s."))

    def _drop(self) -> None:
        """Without lingering: what the client does not take is not kept for it, not even by the kernel."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # gone already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
        if self._is_busy:
            self.cycle.disconnected = True  # nothing of its answer is waited for
            self.cycle.message_event.set()

    def _refuse(self, problem: Problem) -> None:
        if self._is_busy and (self.cycle.response_started or self.pipeline):
            self._drop()  # another answer is on its way: one more in the midst of it would be taken for a part of it
            return
        request_id = os.urandom(8).hex()
        document = problem.document("", request_id)
        body = document.model_dump_json(exclude_unset=True).encode()
        self.transport.write(
            STATUS_LINE[document.status]
            + f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n".encode()
            + f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        if self._is_busy:
            self.cycle.disconnected = True  # it has its answer
            self.cycle.message_event.set()
        self.transport.close()


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket; one that was refused with a problem document, or whose client left while it opened, is no fault."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent or self.transport.is_closing():
            self.handshake_complete = True  # else uvicorn says that the application forgot to answer


def raise_file_limit(settings: ApiSettings) -> None:
    """Allow as many open files as the system does; says so where these are too few for the connections promised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_concurrent + settings.max_streams + FILES_BESIDE
    most = hard if hard != resource.RLIM_INFINITY else MOST_FILES
    if soft < most:
        with contextlib.suppress(OSError, ValueError):  # macOS names more than it gives
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, MOST_FILES), hard))
            soft = min(most, MOST_FILES)
    if soft < wanted:
        log.warning(
            "api.few_open_files",
            limit=soft,
            wanted=wanted,
            advice="raise `ulimit -n`, or lower API_MAX_CONCURRENT and API_MAX_STREAMS",
        )


class Server(uvicorn.Server):
    """Ends the streams first when it is told to stop, and leaves with exit code 0."""

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C stop it; a second one at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            log.info("api.listening", url=f"http://{shown}:{port}", docs=f"http://{shown}:{port}/docs")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for wiring in self._door.app.state.wirings:
            await wiring.hub.stop()
        await super().shutdown(sockets)


def make_server(door: Door, settings: ApiSettings) -> Server:
    """A server that is not started yet."""
    config = uvicorn.Config(
        door,
        host=settings.host,
        port=settings.port,
        loop="none",
        http=Protocol,
        ws=SocketProtocol,
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,
        log_config=None,
        log_level="warning",  # its start and stop are told by our own words
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is
        timeout_graceful_shutdown=math.ceil(settings.drain.total_seconds()),
    )
    return Server(config, door)
