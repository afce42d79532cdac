"""A mail server for development that keeps every mail as a file and sends none on.

`python -m streammesh.cli.mail_catcher --port 1025 --folder var/mail` answers SMTP until SIGTERM or SIGINT. Each
accepted mail is one `.eml` file; the server says 250 only when the file is there in whole (written aside, then
renamed), and 451 when it could not be written.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import os
import re
import signal
import weakref
from email.parser import BytesHeaderParser
from pathlib import Path

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from streammesh import logs
from streammesh.clock import Clock, SystemClock
from streammesh.settings import MeshSettings, load_settings

log = structlog.get_logger()

LARGEST_MAIL = 50_000_000  # bytes; more than any real server takes
SLUG_LENGTH = 60


class Keeper:
    """Stores what arrives. File name: `<UTC time>-<recipient>-<Message-ID>.eml`, so a listing is in time order."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content or b""
        recipients = [str(recipient) for recipient in envelope.rcpt_tos]
        try:
            async with self._one_at_a_time:
                path = await asyncio.to_thread(self.store, content, str(envelope.mail_from or ""), recipients)
        except OSError as error:
            log.error("mail.not_stored", error=str(error))
            return "451 4.3.0 the mail could not be stored"
        log.info("mail.caught", path=str(path), size_bytes=len(content))
        return "250 2.0.0 caught"

    def store(self, content: bytes, sender: str, recipients: list[str]) -> Path:
        """Write one mail, with its envelope as Return-Path and Delivered-To above it. Raises OSError."""
        envelope = [f"Return-Path: <{sender}>", *(f"Delivered-To: {recipient}" for recipient in recipients)]
        message_id = str(BytesHeaderParser().parsebytes(content).get("Message-ID", "no-id"))
        moment = self._clock.now().strftime("%Y%m%dT%H%M%S.%fZ")
        stem = f"{moment}-{slug(recipients[0] if recipients else 'nobody')}-{slug(message_id)}"
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f".{stem}.part"
        try:
            aside.write_bytes("\r\n".join([*envelope, ""]).encode() + content)
            return aside.rename(self._free_name(stem))
        finally:
            aside.unlink(missing_ok=True)

    def _free_name(self, stem: str) -> Path:
        """A name that no mail has, not even one of the same microsecond."""
        names = (f"{stem}.eml" if not number else f"{stem}-{number}.eml" for number in itertools.count())
        return next(path for name in names if not (path := self._folder / name).exists())


def slug(text: str) -> str:
    """Letters, digits, `.`, `-`, `+` and `@` of a text, the rest as one `_` each run; never empty."""
    return re.sub(r"[^A-Za-z0-9.@+-]+", "_", text).strip("._-")[:SLUG_LENGTH] or "_"


async def serve(host: str, port: int, folder: Path, *, clock: Clock | None = None) -> None:
    """Catch mail on host:port (0: any free port, said in the log) until the process is asked to end.

    Raises OSError where the port cannot be had.
    """
    loop = asyncio.get_running_loop()
    keeper = Keeper(folder, clock or SystemClock())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections: weakref.WeakSet[SMTP] = weakref.WeakSet()

    def answer() -> SMTP:
        connection = SMTP(
            keeper, data_size_limit=LARGEST_MAIL, enable_SMTPUTF8=True, hostname="mail-catcher", loop=loop
        )
        connections.add(connection)
        return connection

    server = await loop.create_server(answer, host, port)
    port = server.sockets[0].getsockname()[1]
    log.info("mail_catcher.listening", host=host, port=port, folder=str(folder))
    async with server:
        await stop.wait()
        server.close()
        for connection in connections:
            if connection.transport is not None:
                connection.transport.close()
    log.info("mail_catcher.stopped")


def _port(text: str) -> int:
    if not text.isdecimal() or not int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port between 0 and 65535")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """The command. Exits 2 on a wrong argument, 1 where the port is taken."""
    parser = argparse.ArgumentParser(
        prog="mail_catcher", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=1025, help="port, 0 for any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("var/mail"), help="where mails go (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    logs.configure(load_settings(MeshSettings), "mail_catcher")
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's own lines, one for each command
    try:
        asyncio.run(serve(chosen.host, chosen.port, chosen.folder))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise SystemExit(f"mail_catcher: cannot listen on {chosen.host}:{chosen.port}: {why}") from None


if __name__ == "__main__":
    main()
