"""Whether a process lives and can do its own work: `/livez` and `/readyz` on a port of its own, `/metrics` beside them.

Answers come from what the process knows already, so they cost well under 5 ms and ask nobody: a Redis that is away
kills no process. They are given by a thread, which answers also when the loop or consumer that does the work has
died or hangs, and says so. Only native code that keeps the GIL keeps it from answering.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from time import monotonic
from typing import Any

import structlog

from streammesh.telemetry import catalogue, metrics

log = structlog.get_logger(__name__)
Check = Callable[[], str | None]  # why a part does not work; None where it does

MOST_AT_ONCE = 32  # connections; more are closed unheard
HEAD_BYTES = 8_192
HEAD_SECONDS = 2.0
METRICS_SECONDS = 10.0  # what Prometheus waits for by default


class Pulse:
    """When something that goes round and round last did, and why it does not now. May be used from any thread."""

    def __init__(self, waits_for: str = "it is starting") -> None:
        self._at, self._waits_for = monotonic(), waits_for

    def beat(self) -> None:
        """It has gone round once more."""
        self._at, self._waits_for = monotonic(), ""

    def rest(self, why: str) -> None:
        """It does not go round now, and should not: it waits for something, or failed and will try again."""
        self._at, self._waits_for = monotonic(), why

    def silent_for(self, seconds: float) -> str | None:
        """Return what to say when it should go round and has not for `seconds`."""
        silence = monotonic() - self._at
        return f"has not turned for {silence:.0f} s" if not self._waits_for and silence > seconds else None

    def waits(self, seconds: float) -> str | None:
        """Return why it does not do its work now; None where it went round within `seconds`."""
        return self._waits_for or self.silent_for(seconds)


class Echo:
    """Whether an event loop turns, asked from another thread: it is called, and has to call back."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._called_at = loop, 0.0

    def _heard(self) -> None:
        self._called_at = 0.0

    def silent_for(self, seconds: float) -> str | None:
        """Return what to say when a call was not answered for `seconds`, or the loop is closed."""
        if self._loop.is_closed() or not self._loop.is_running():
            return "its event loop has ended"
        if not self._called_at:
            self._called_at = monotonic()
            with suppress(RuntimeError):  # closed this moment; said the next time
                self._loop.call_soon_threadsafe(self._heard)
            return None
        silence = monotonic() - self._called_at
        return f"its event loop has not turned for {silence:.0f} s" if silence > seconds else None


class Health:
    """What has to hold for a process to live, and what for it to work. Parts may come at any time."""

    def __init__(self) -> None:
        self._live: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}
        self._any: set[str] = set()
        self._looks: list[Callable[[], None]] = []

    def lives_while(self, part: str, check: Check) -> None:
        """Have the process count as dead while `check` says why; whoever watches over it starts it anew."""
        self._live[part] = check

    def works_while(self, part: str, check: Check) -> None:
        """Have the process count as not ready while `check` says why; it is given no work."""
        self._ready[part] = check

    def works_while_any(self, part: str, check: Check) -> None:
        """As `works_while`, of parts of which one suffices: the process is ready until none of them works."""
        self._any.add(part)
        self._ready[part] = check

    def measured_by(self, look: Callable[[], None]) -> None:
        """Call `look`, in a thread, before metrics are told: it sets what is only known by asking."""
        self._looks.append(look)

    def measures(self) -> bytes:
        """Return the process's metrics as Prometheus reads them. May take as long as what has to be asked."""
        for look in self._looks:
            try:
                look()
            except Exception as error:
                log.warning("metrics.not_measured", reason=f"{type(error).__name__}: {error}"[:200])
        parts = self.ready()["parts"]
        catalogue.READY.replace({(name,): float(part["ok"]) for name, part in parts.items()})
        return metrics.exposition()

    def live(self) -> dict[str, Any]:
        """Return `{"status": "ok" | "dead", "parts": {name: {"ok", "detail"}}}`."""
        return _document(list(self._live.items()), "ok", "dead", ())

    def ready(self) -> dict[str, Any]:
        """Return `{"status": "ready" | "not ready", "parts": …}`; what does not live is not ready."""
        return _document([*self._live.items(), *self._ready.items()], "ready", "not ready", self._any)


def _document(
    checks: list[tuple[str, Check]], well: str, ill: str, one_of: Collection[str]
) -> dict[str, Any]:
    parts: dict[str, dict[str, Any]] = {}
    for name, check in checks:
        if not parts.get(name, {"ok": True})["ok"]:
            continue
        try:
            wrong = check()
        except Exception as error:
            wrong = f"cannot be told: {type(error).__name__}"
        parts[name] = {"ok": wrong is None, "detail": wrong or "works"}
    works = all(part["ok"] for name, part in parts.items() if name not in one_of)
    works = works and (not one_of or any(parts[name]["ok"] for name in one_of))
    return {"status": well if works else ill, "parts": parts}


class HealthServer:
    """Answers `/livez` (also `/healthz`) and `/readyz` with 200 or 503, until the process ends."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        self._health, self._open, self._one_at_a_time = health, 0, asyncio.Lock()
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        # A forked pool child would keep the port of a parent that was killed.
        os.register_at_fork(after_in_child=self._socket.close)
        threading.Thread(target=self._run, name="health", daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError, RuntimeError):  # a child of fork closes the socket, the process ends
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._answer, sock=self._socket, limit=HEAD_BYTES)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST_AT_ONCE:
                async with asyncio.timeout(HEAD_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                request = head.split(b" ", 2)
                if request[0] == b"GET" and len(request) > 2 and request[1].partition(b"?")[0] == b"/metrics":
                    async with asyncio.timeout(METRICS_SECONDS), self._one_at_a_time:
                        content = await asyncio.to_thread(self._health.measures)
                    writer.write(_http(200, content, metrics.CONTENT_TYPE) if content else _NO_METRICS)
                else:
                    writer.write(self._response(request))
                async with asyncio.timeout(HEAD_SECONDS):
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._open -= 1
            writer.close()

    def _response(self, request: list[bytes]) -> bytes:
        method, path = request[0], request[1].partition(b"?")[0] if len(request) > 2 else b""
        if method not in (b"GET", b"HEAD"):
            return _json(405, {"status": "only GET is answered here"}, body=True)
        if path in (b"/livez", b"/healthz"):
            found = self._health.live()
        elif path == b"/readyz":
            found = self._health.ready()
        else:
            return _json(404, {"status": "there are /livez, /readyz and /metrics"}, body=method == b"GET")
        return _json(200 if found["status"] in ("ok", "ready") else 503, found, body=method == b"GET")


def serve_health(health: Health, host: str, port: int, *, measured: bool = False) -> HealthServer:
    """Begin to answer, as early in the process as can be. A port that is taken is replaced by a free one.

    `measured`: count and measure in this process, and answer `/metrics` too.
    """
    if measured:
        metrics.begin(catalogue.all_metrics())
    try:
        server = HealthServer(health, host, port)
    except OSError as error:
        server = HealthServer(health, host, 0)
        log.error("health.port_taken", wanted=port, taken=server.port, reason=str(error))
    else:
        log.info("health.listening", port=server.port)
    return server


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(MOST_AT_ONCE)
    except OSError:
        made.close()
        raise
    return made


_PHRASES = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def _json(status: int, value: dict[str, Any], *, body: bool) -> bytes:
    content = json.dumps(value).encode()
    return _http(status, content, "application/json", body=body)


def _http(status: int, content: bytes, kind: str, *, body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(content)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + (content if body else b"")


_NO_METRICS = _json(404, {"status": "metrics are off: MESH_METRICS=false"}, body=True)
