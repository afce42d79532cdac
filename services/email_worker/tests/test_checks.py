"""What `streammesh doctor` says of the mail server: a real one, that lets the worker in or does not."""

from __future__ import annotations

import socket
from typing import Any

from services.email_worker.checks import look
from services.email_worker.settings import EmailSettings
from services.email_worker.tests.conftest import Serve


def settings(**values: Any) -> EmailSettings:
    return EmailSettings(_env_file=None, connect_timeout="2s", **values)


async def test_a_server_that_lets_the_worker_in_is_well_and_gets_no_mail(serve: Serve) -> None:
    server = await serve(logins={"mesh": "right"})
    assert await look(settings(smtp_url=f"smtp://mesh:right@127.0.0.1:{server.port}")) == []
    assert (server.connections, server.mails) == (1, [])


async def test_a_refused_login_is_told_in_the_words_of_the_server(serve: Serve) -> None:
    server = await serve(logins={"mesh": "right"})
    [said] = await look(settings(smtp_url=f"smtp://mesh:wrong-secret@127.0.0.1:{server.port}"))
    assert said.code == "mail-refused" and "refused the login: 535" in said.text
    assert "wrong-secret" not in said.text and "EMAIL_SMTP_URL" in said.do


async def test_a_server_that_is_away_is_told_and_one_that_nobody_named_is_not_looked_for() -> None:
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        [said] = await look(settings(smtp_url=f"smtp://127.0.0.1:{bound.getsockname()[1]}"))
    assert said.code == "mail-refused" and "cannot be used" in said.text
    assert await look(settings()) == []
