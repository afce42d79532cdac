"""Sends one request to a URL that somebody else chose: never into our own network, never further, never for long.

The name is resolved by us and each address judged; the address that is connected to is judged again where its socket is
made, so nothing can change between. Redirects are not followed, answers are read to a bound.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from streammesh.webhooks.addresses import Network, is_refused

from services.webhook_worker.verdict import ReceiverAnswer

MOST_ANSWERED = 65_536  # bytes of an answer that are read
MOST_ERROR = 200  # characters
KEPT_OPEN_SECONDS = 20.0
NAMES_KEPT_SECONDS = 30
USER_AGENT = "streammesh-webhooks/1"


class RefusedAddress(OSError):
    """The URL leads into a network that nothing is sent to."""


class PublicResolver(AbstractResolver):
    """Resolves names to addresses that may be sent to."""

    def __init__(self, allowed: Sequence[Network], inner: AbstractResolver | None = None) -> None:
        self._allowed, self._inner = allowed, inner or aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises RefusedAddress where any is refused: who mixes them means no good."""
        found = await self._inner.resolve(host, port, family)
        if any(is_refused(one["host"], self._allowed) for one in found):
            raise RefusedAddress("it leads into a network that nothing is sent to")
        return found

    async def close(self) -> None:
        """Close the resolver within."""
        await self._inner.close()


class WebhookSender:
    """Makes requests; `close` it. One instance per process."""

    def __init__(
        self,
        allowed: Sequence[Network],
        seconds: float,
        resolver: AbstractResolver | None = None,
        most_answered: int = MOST_ANSWERED,
    ) -> None:
        self._allowed, self.most_answered = allowed, most_answered
        connector = aiohttp.TCPConnector(
            resolver=PublicResolver(allowed, resolver),
            socket_factory=self._socket,
            limit=0,  # the sessions bound it
            ttl_dns_cache=NAMES_KEPT_SECONDS,
            keepalive_timeout=KEPT_OPEN_SECONDS,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=seconds, connect=min(seconds, 10)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # what is small on the wire may be large
            headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        )

    def _socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if is_refused(address[0], self._allowed):
            raise RefusedAddress("it leads into a network that nothing is sent to")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> ReceiverAnswer:
        """POST it once. Never raises for what the other side does."""
        began = time.monotonic()
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                read = await self._read(answer)
                error = None if answer.status < 300 else f"it answered {answer.status}"
                if 300 <= answer.status < 400:
                    error = f"it answered {answer.status}; redirects are not followed"
                after = answer.headers.get("retry-after")
                return ReceiverAnswer(answer.status, error, after, time.monotonic() - began, read)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return ReceiverAnswer(None, _shown(error), seconds=time.monotonic() - began)

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        """Read the answer as far as its bound; beyond it the connection is closed."""
        parts, size = [], 0
        while size <= self.most_answered and (part := await answer.content.readany()):
            parts.append(part)
            size += len(part)
        if size > self.most_answered:
            answer.close()
        return b"".join(parts)[: self.most_answered + 1]

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _shown(error: BaseException) -> str:
    """What is said of a failure: to the owner of the URL, so nothing of our own network beside it."""
    refused: BaseException | None = error
    while refused is not None:
        if isinstance(refused, RefusedAddress):
            return str(refused)
        refused = refused.__cause__ or getattr(refused, "os_error", None)
        if refused is error:
            break
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "it cannot be connected to"
    return f"the connection broke: {type(error).__name__}"[:MOST_ERROR]
