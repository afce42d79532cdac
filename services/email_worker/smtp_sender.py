"""Hands mails to the mail server, over one connection that all handlers of a process share.

What the server says decides what happens next. A 5xx about this mail or its recipient: `Reject`, with the server's
words. A 5xx about our own sender address: `Fail`, since it meets every mail until the setting is mended. A 4xx,
silence, a dropped connection, a server that cannot be reached or that does not let us in: `NotSent`, and the
task is tried again by its policy. A refused login is in the second group although its code is 535: it is the
configuration that is wrong and not the mail, so no mail is given up because of it, and the operator who mends
the password finds all of them still on their way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import timedelta
from pathlib import Path

import structlog
from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPResponseException,
    SMTPServerDisconnected,
)
from streammesh import Fail, Reject
from streammesh.clock import Clock, SystemClock

from services.email_worker.mail import Mail
from services.email_worker.settings import SmtpServer

log = structlog.get_logger()

CLOSING = 421  # RFC 5321 3.8: the server ends the connection, whatever was asked
BAD_SEQUENCE = 503  # the session is broken, not the mail
TOO_LARGE = 552
LOGIN_WANTED = frozenset({530, 534, 535, 538})  # RFC 4954: answers about who we are, at any command
LONGEST_WORDS = 500  # characters of an answer that go into results and reasons
QUIT_SECONDS = 2.0  # only politeness, so nobody waits for it longer
# After a failed connect all mails that wait for the connection fail with it, instead of trying one after the other.
HOLD_OFF = timedelta(seconds=1)
# Whoever waits longer than this for the turn tries again later. It must leave most of an attempt's time for the
# mail itself: an attempt that is cut off while the server accepts makes a repeat.
LONGEST_WAIT = timedelta(seconds=45)
LOGIN_HOLD_OFF = timedelta(seconds=15)  # servers lock out who tries a wrong password often


class NotSent(Exception):
    """The server did not take the mail, and nothing is known to be wrong with the mail: try again later.

    After a connection that broke while the server was accepting, the mail may have been taken all the same.
    """


class MailTooLarge(Reject):
    """The server does not take a mail of this size. A smaller one, with a link, may pass."""


class Sender:
    """One connection to one mail server, opened at the first mail and closed after `idle_close` without one.

    `send` may be called by many tasks of one event loop at once; they take turns. A connection that the server
    dropped while it was idle is opened again without the caller noticing.
    """

    def __init__(
        self,
        server: SmtpServer,
        *,
        helo_name: str,
        connect_timeout: timedelta,
        reply_timeout: timedelta,
        accept_timeout: timedelta,
        idle_close: timedelta,
        longest_wait: timedelta = LONGEST_WAIT,
        tls_ca: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._server = server
        self._helo_name = helo_name
        self._connect_timeout = connect_timeout.total_seconds()
        self._reply_timeout = reply_timeout.total_seconds()
        self._accept_timeout = accept_timeout.total_seconds()
        self._idle_close = idle_close.total_seconds()
        self._longest_wait = longest_wait.total_seconds()
        self._tls_ca = tls_ca
        self._clock = clock or SystemClock()
        self._turn = asyncio.Lock()
        self._client: SMTP | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._held: tuple[float, str] = (0.0, "")

    async def send(self, mail: Mail) -> str:
        """Hand one mail over; returns the server's words of acceptance.

        Raises `Reject` (`MailTooLarge`), `Fail` or `NotSent`. Cancelled in the middle of a mail, the connection is
        closed, because the next answer on it would belong to the mail before.
        """
        try:
            async with asyncio.timeout(self._longest_wait):
                await self._turn.acquire()
        except TimeoutError:
            raise NotSent(f"{self._name} was busy with other mails for {self._longest_wait:g} s") from None
        try:
            self._stop_idling()
            return await self._hand_over(mail)
        finally:
            if self._client and self._client.is_connected:
                loop = asyncio.get_running_loop()
                self._idle = loop.call_later(self._idle_close, self._close_idle)
            self._turn.release()

    async def greet(self) -> None:
        """Connect, log in where there is a login, and hand nothing over. Raises `NotSent`, which says what the server said."""
        async with self._turn:
            if self._client is None or not self._client.is_connected:
                await self._connect()

    async def close(self) -> None:
        """Say goodbye and close the connection, after the mail that is on its way. Opens again when needed."""
        async with self._turn:
            self._stop_idling()
            client, self._client = self._client, None
            if client is None:
                return
            with contextlib.suppress(SMTPException, OSError):
                await client.quit(timeout=QUIT_SECONDS)
            client.close()
            log.debug("smtp.closed", host=self._server.host)

    async def _hand_over(self, mail: Mail) -> str:
        client = await self._begin(mail)
        stage = "RCPT TO"
        try:
            encoding = "utf-8" if mail.recipient.needs_utf8 else "ascii"
            await client.rcpt(mail.recipient.address, encoding=encoding)
            stage = "DATA"
            return printable((await client.data(mail.content, timeout=self._accept_timeout)).message)
        except SMTPResponseException as refusal:
            raise await self._refused(client, stage, refusal) from None
        except SMTPException as broken:
            client.close()
            raise NotSent(f"{self._name} at {stage}: {broken.message}") from broken
        except BaseException:
            client.close()
            raise

    async def _begin(self, mail: Mail) -> SMTP:
        """A connection on which the server took the mail's sender.

        Nothing of the mail is on its way before, so a connection that turns out to be gone is replaced, once.
        """
        client, reused = self._client, True
        if client is None or not client.is_connected:
            client, reused = await self._connect(), False
        options = self._options(client, mail)
        try:
            await client.mail(mail.sender.address, options=options)
        except SMTPServerDisconnected as gone:
            if not reused:
                raise NotSent(f"{self._name} at MAIL FROM: {gone.message}") from gone
        except SMTPResponseException as refusal:
            if not (reused and refusal.code == CLOSING):
                raise await self._refused(client, "MAIL FROM", refusal) from None
        except SMTPException as broken:
            client.close()
            raise NotSent(f"{self._name} at MAIL FROM: {broken.message}") from broken
        except BaseException:
            client.close()
            raise
        else:
            return client
        client.close()
        self._client = None
        return await self._begin(mail)

    def _options(self, client: SMTP, mail: Mail) -> list[str]:
        options = [f"SIZE={len(mail.content)}"] if client.supports_extension("size") else []
        if mail.recipient.needs_utf8:
            if not client.supports_extension("smtputf8"):
                raise Reject(
                    f"{self._name} takes no address with letters beyond ASCII before the @ (SMTPUTF8)"
                )
            options.append("SMTPUTF8")
        return options

    async def _connect(self) -> SMTP:
        until, why = self._held
        if self._clock.monotonic() < until:
            raise NotSent(why)
        try:
            async with asyncio.timeout(self._connect_timeout):
                client = await self._open()
        except SMTPAuthenticationError as refused:
            raise self._hold(
                LOGIN_HOLD_OFF, f"refused the login: {refused.code} {printable(refused.message)}"
            ) from None
        except SMTPResponseException as refused:
            raise self._hold(
                HOLD_OFF, f"refused the connection: {refused.code} {printable(refused.message)}"
            ) from None
        except TimeoutError:
            raise self._hold(HOLD_OFF, "did not answer in time") from None
        except (SMTPException, OSError) as failed:  # OSError: ssl.SSLError too, such as a wrong certificate
            raise self._hold(HOLD_OFF, f"cannot be used: {failed}") from failed
        self._client = client
        log.info(
            "smtp.connected", host=self._server.host, port=self._server.port, security=self._server.security
        )
        return client

    async def _open(self) -> SMTP:
        server = self._server
        client = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username,
            password=server.password if server.username else None,
            local_hostname=self._helo_name,
            timeout=self._reply_timeout,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=await self._tls(),
        )
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                await client.ehlo()
        except BaseException:
            client.close()
            raise
        return client

    async def _tls(self) -> ssl.SSLContext | None:
        if self._server.security == "plain":
            return None
        cafile = str(self._tls_ca) if self._tls_ca else None
        return await asyncio.to_thread(ssl.create_default_context, cafile=cafile)

    def _hold(self, wait: timedelta, what: str) -> NotSent:
        why = f"{self._name} {what}"
        self._held = (self._clock.monotonic() + wait.total_seconds(), why)
        log.warning("smtp.unavailable", host=self._server.host, port=self._server.port, reason=why)
        return NotSent(why)

    async def _refused(self, client: SMTP, stage: str, refusal: SMTPResponseException) -> Exception:
        """The exception that an answer asks for; the connection is made ready for the next mail, or closed."""
        said = f"{refusal.code} {printable(refusal.message)}"
        verdict = judge(stage, refusal.code, f"{self._name} at {stage}: {said}")
        ready = False
        try:
            if isinstance(verdict, Reject | Fail) or 400 <= refusal.code < 500:
                await client.rset()
                ready = True
        except SMTPException:
            pass  # the answer to the mail is known already; only the connection is of no more use
        finally:
            if not ready:
                client.close()
        return verdict

    @property
    def _name(self) -> str:
        return f"mail server {self._server.host}:{self._server.port}"

    def _stop_idling(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None

    def _close_idle(self) -> None:
        self._idle = None
        self._closing = asyncio.create_task(self.close(), name="smtp.idle_close")


def printable(words: str) -> str:
    """A server's words as one line of valid text, since servers answer in any encoding and on many lines."""
    text = words.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST_WORDS]


def judge(stage: str, code: int, words: str) -> Exception:
    """What an answer to a command about one mail asks for (RFC 5321 4.2.1): `Reject`, `Fail` or `NotSent`."""
    if not 500 <= code < 600 or code in LOGIN_WANTED or code == BAD_SEQUENCE:
        return NotSent(words)
    if code == TOO_LARGE and stage != "RCPT TO":  # there it speaks of the mailbox, not of this mail
        return MailTooLarge(words)
    return Fail(words) if stage == "MAIL FROM" else Reject(words)
