"""uvicorn, with what it lacks for a door to the outside: limits on a request's head, problem documents from the
parser, a way to drop a connection, and streams that end before it waits for connections to close.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import Iterator

import orjson
import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.api.middleware import Door
from services.api.problems import MEDIA_TYPE, Problem
from services.api.settings import ApiSettings
from services.api.sse import ABORT

log = structlog.get_logger(__name__)

HEAD_BYTES = 65_536  # of request line and headers; more is refused while it arrives
HEAD_SECONDS = 20  # a client that has not said by then what it wants is disconnected


class Protocol(HttpToolsProtocol):
    """One connection. The parser keeps what it cannot hand on yet, so what a head may cost is counted here."""

    _head_bytes = 0
    _in_head = True
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard_out()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes, self._in_head = 0, True
        extensions = {ABORT: {"call": self._drop}}
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heard_out()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and self.parser is not None and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._patience is None:
                self._patience = self.loop.call_later(HEAD_SECONDS, self._too_slow)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(Problem("headers-too-large", f"At most {HEAD_BYTES:,} bytes are allowed."))

    def send_400_response(self, msg: str) -> None:
        self._refuse(Problem("malformed-request", msg))

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
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _refuse(self, problem: Problem) -> None:
        request_id = os.urandom(8).hex()
        document = problem.document("", request_id)
        body = orjson.dumps(document)
        self.transport.write(
            STATUS_LINE[document["status"]]
            + f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n".encode()
            + f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        self.transport.close()


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
        await self._door.app.state.wiring.hub.stop()
        await super().shutdown(sockets)


def make_server(door: Door, settings: ApiSettings) -> Server:
    """A server that is not started yet."""
    config = uvicorn.Config(
        door,
        host=settings.host,
        port=settings.port,
        loop="none",
        http=Protocol,
        log_config=None,
        log_level="warning",  # its start and stop are told by our own words
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is
        timeout_graceful_shutdown=round(settings.drain.total_seconds()),
    )
    return Server(config, door)
