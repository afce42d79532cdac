"""A real SMTP server (aiosmtpd) in the test's event loop that answers what the test wants."""

from __future__ import annotations

import asyncio
import ssl
import warnings
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from services.email_worker.settings import Security, SmtpServer

SILENCE = "<silence>"
HANG_UP = "<hang up>"


@dataclass(slots=True)
class Taken:
    """One mail that the server accepted."""

    sender: str
    recipients: list[str]
    content: bytes
    options: list[str]
    over_tls: bool
    login: str | None


@dataclass
class MailServer:
    """Listens on a free port of 127.0.0.1. `answers[stage]` are said first, one each; then everything is taken.

    Stages are MAIL, RCPT, DATA, RSET and EHLO; an answer is a line such as `"450 later"`, SILENCE or HANG_UP.
    """

    security: Security = "plain"
    tls: ssl.SSLContext | None = None
    logins: dict[str, str] = field(default_factory=dict)
    smtputf8: bool = True
    largest: int = 10_000_000
    connections: int = 0
    login_attempts: int = 0
    mails: list[Taken] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    answers: dict[str, deque[Any]] = field(default_factory=lambda: defaultdict(deque))

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._open: weakref.WeakSet[SMTP] = weakref.WeakSet()
        self._released = asyncio.Event()
        implicit = self.tls if self.security == "tls" else None
        self._server = await loop.create_server(self._answer, "127.0.0.1", 0, ssl=implicit)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._released.set()
        self._server.close()
        self.drop_all()
        await self._server.wait_closed()
        await wait_until(lambda: not self.open_connections)

    def drop_all(self) -> None:
        """Cut every connection, as a restarted server or a firewall does."""
        for connection in self._open:
            if connection.transport is not None:
                connection.transport.abort()

    @property
    def open_connections(self) -> int:
        return sum(connection.transport is not None for connection in self._open)

    def address(self, username: str | None = None, password: str = "", host: str = "127.0.0.1") -> SmtpServer:
        return SmtpServer(host, self.port, self.security, username, password)

    def _answer(self) -> SMTP:
        self.connections += 1
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # it warns of passwords without TLS, which is a case here
            connection = SMTP(
                self,
                hostname="mx.example.com",
                data_size_limit=self.largest,
                enable_SMTPUTF8=self.smtputf8,
                tls_context=self.tls if self.security == "starttls" else None,
                require_starttls=self.security == "starttls",
                authenticator=self._authenticate if self.logins else None,
                auth_required=bool(self.logins),
                auth_require_tls=self.security == "starttls",
                auth_exclude_mechanism=None if self.logins else ["LOGIN", "PLAIN"],
                loop=asyncio.get_running_loop(),
            )
        self._open.add(connection)
        return connection

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, how: str, who: Any
    ) -> AuthResult:
        assert isinstance(who, LoginPassword)
        self.login_attempts += 1
        right = self.logins.get(who.login.decode()) == who.password.decode()
        return AuthResult(success=right, handled=False, auth_data=who)

    async def _say(self, stage: str, server: SMTP) -> Any:
        self.seen.append(stage)
        if not self.answers[stage]:
            return None
        answer = self.answers[stage].popleft()
        if answer == HANG_UP:
            server.transport.abort()
        if answer in (HANG_UP, SILENCE):
            await self._released.wait()
        return answer

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, name: str, said: list[str]
    ) -> list[str]:
        session.host_name = name
        answer = await self._say("EHLO", server)
        return [answer] if answer else said

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._say("MAIL", server)
        if answer:
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._say("RCPT", server)
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_RSET(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return await self._say("RSET", server) or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await self._say("DATA", server)
        if answer:
            return answer
        self.mails.append(
            Taken(
                sender=envelope.mail_from or "",
                recipients=list(envelope.rcpt_tos),
                content=envelope.original_content or b"",
                options=list(envelope.mail_options),
                over_tls=session.ssl is not None or self.security == "tls",
                login=session.login_data.decode() if session.login_data else None,
            )
        )
        return "250 2.0.0 queued as 4711"


async def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Until a condition holds; fails the test when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # conditions of a server have no event to wait for
            await asyncio.sleep(0.005)
