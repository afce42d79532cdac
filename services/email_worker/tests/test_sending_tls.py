"""The protected ways to a server: STARTTLS, TLS from the start, and login over them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import uvloop

from services.email_worker.settings import Security, SmtpServer
from services.email_worker.smtp_sender import NotSent
from services.email_worker.tests.conftest import SendTo, Serve, a_mail, a_sender
from services.email_worker.tests.mail_server import MailServer, wait_until

PROTECTED: list[Security] = ["starttls", "tls"]


@pytest.mark.parametrize("security", PROTECTED)
async def test_mail_and_password_go_over_tls(
    security: Security, serve: Serve, send_to: SendTo, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    server = await serve(security=security, tls=server_tls, logins={"mesh": "s3cret"})
    sender = send_to(server.address("mesh", "s3cret"), tls_ca=ca_file)
    for n in range(3):
        await sender.send(a_mail("jörg@example.com", task_id=f"t{n}"))
    assert server.connections == 1
    assert [(taken.over_tls, taken.login) for taken in server.mails] == [(True, "mesh")] * 3


@pytest.mark.parametrize("security", PROTECTED)
def test_the_worker_s_own_event_loop_does_it_too(
    security: Security, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    """Workers run on uvloop, whose TLS is its own."""

    async def scenario() -> MailServer:
        server = MailServer(security=security, tls=server_tls)
        await server.start()
        sender = a_sender(server.address(), tls_ca=ca_file)
        await sender.send(a_mail(task_id="t1"))
        server.drop_all()
        await sender.send(a_mail(task_id="t2"))
        await sender.close()
        await server.stop()
        return server

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server = runner.run(scenario())
    assert (len(server.mails), server.connections) == (2, 2)


@pytest.mark.parametrize("security", PROTECTED)
async def test_a_dropped_tls_connection_is_opened_again(
    security: Security, serve: Serve, send_to: SendTo, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    server = await serve(security=security, tls=server_tls)
    sender = send_to(server, tls_ca=ca_file)
    await sender.send(a_mail(task_id="t1"))
    server.drop_all()
    await wait_until(lambda: not server.open_connections)
    await sender.send(a_mail(task_id="t2"))
    assert (len(server.mails), server.connections) == (2, 2)


@pytest.mark.parametrize("security", PROTECTED)
async def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(
    security: Security, serve: Serve, send_to: SendTo, server_tls: ssl.SSLContext
) -> None:
    server = await serve(security=security, tls=server_tls, logins={"mesh": "s3cret"})
    with pytest.raises(NotSent, match=r"(?i)certificate.*verif"):
        await send_to(server.address("mesh", "s3cret")).send(a_mail())
    assert not server.login_attempts and not server.mails


@pytest.mark.parametrize("security", PROTECTED)
async def test_a_certificate_for_another_name_is_refused(
    security: Security, serve: Serve, send_to: SendTo, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    server = await serve(security=security, tls=server_tls)
    with pytest.raises(NotSent, match=r"(?i)mismatch|not valid for"):
        await send_to(server.address(host="localhost"), tls_ca=ca_file).send(a_mail())
    assert not server.mails


async def test_a_server_without_starttls_gets_no_mail_in_the_clear(
    serve: Serve, send_to: SendTo, ca_file: Path
) -> None:
    server = await serve()
    with pytest.raises(NotSent, match="STARTTLS"):
        await send_to(SmtpServer("127.0.0.1", server.port, "starttls"), tls_ca=ca_file).send(a_mail())
    assert not server.mails


async def test_speaking_tls_to_a_port_that_does_not_is_tried_again_later(
    serve: Serve, send_to: SendTo, ca_file: Path
) -> None:
    server = await serve()
    with pytest.raises(NotSent, match="cannot be used"):
        await send_to(SmtpServer("127.0.0.1", server.port, "tls"), tls_ca=ca_file).send(a_mail())
