"""Handing mail to a real server: what it takes, what it refuses, how it goes away."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import pytest
from streammesh import Fail, Reject
from streammesh.clock import ManualClock

from services.email_worker.settings import SmtpServer
from services.email_worker.smtp_sender import LOGIN_HOLD_OFF, MailTooLarge, NotSent
from services.email_worker.tests.conftest import SendTo, Serve, a_mail
from services.email_worker.tests.mail_server import HANG_UP, SILENCE, wait_until

SHORT = timedelta(milliseconds=80)


async def test_a_mail_is_handed_over_as_it_is(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    mail = a_mail("ann+news@example.com", text=".a dot at the start of a line\n", pdf=b"%PDF")
    words = await send_to(server).send(mail)
    (taken,) = server.mails
    assert words == "2.0.0 queued as 4711"
    assert (taken.sender, taken.recipients) == ("no-reply@example.com", ["ann+news@example.com"])
    assert taken.content == mail.content
    assert taken.options == [f"SIZE={len(mail.content)}"]


async def test_concurrent_mails_share_one_connection(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    sender = send_to(server)
    await asyncio.gather(*(sender.send(a_mail(task_id=f"t{n}")) for n in range(50)))
    assert server.connections == 1
    assert sorted(taken.content for taken in server.mails) != []
    assert len({taken.content for taken in server.mails}) == len(server.mails) == 50


async def test_a_connection_that_was_dropped_while_idle_is_opened_again(
    serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    sender = send_to(server)
    for n in range(3):
        await sender.send(a_mail(task_id=f"t{n}"))
        server.drop_all()
        await wait_until(lambda: not server.open_connections)
    assert len(server.mails) == server.connections == 3


async def test_a_connection_that_drops_at_the_next_mail_is_opened_again(
    serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    sender = send_to(server)
    await sender.send(a_mail(task_id="t1"))
    server.answers["MAIL"].append(HANG_UP)
    await sender.send(a_mail(task_id="t2"))
    assert (len(server.mails), server.connections) == (2, 2)


async def test_a_server_that_ends_the_session_with_421_is_connected_to_again(
    serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    sender = send_to(server)
    await sender.send(a_mail(task_id="t1"))
    server.answers["MAIL"].append("421 4.7.0 too many mails in one session")
    await sender.send(a_mail(task_id="t2"))
    assert (len(server.mails), server.connections) == (2, 2)


async def test_a_server_that_drops_a_new_connection_is_not_asked_over_and_over(
    serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    for answer in (HANG_UP, "421 4.3.2 shutting down"):
        server.answers["MAIL"].append(answer)
        before = server.connections
        with pytest.raises(NotSent, match="MAIL FROM"):
            await send_to(server).send(a_mail())
        assert server.connections == before + 1


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", ["450 4.2.0 try later", "451 4.7.1 greylisted", "452 4.2.2 mailbox full"])
async def test_a_4xx_is_tried_again_and_the_next_mail_goes_out(
    stage: str, answer: str, serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    server.answers[stage].append(answer)
    sender = send_to(server)
    with pytest.raises(NotSent, match=answer):
        await sender.send(a_mail(task_id="t1"))
    await sender.send(a_mail(task_id="t2"))
    assert (len(server.mails), server.connections) == (1, 1)
    assert server.mails[0].recipients == ["ann@example.com"]


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "answer", ["550 5.1.1 no such user here", "554 5.7.1 looks like spam", "501 5.1.3 bad address"]
)
async def test_a_5xx_is_rejected_with_the_servers_words_and_the_next_mail_goes_out(
    stage: str, answer: str, serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    server.answers[stage].append(answer)
    sender = send_to(server)
    verdict = (
        Fail if stage == "MAIL" else Reject
    )  # our own address at fault meets every mail: the breaker counts it
    with pytest.raises(verdict, match=answer) as rejected:
        await sender.send(a_mail("ann@example.com", task_id="t1"))
    assert "ann@" not in str(rejected.value)
    await sender.send(a_mail("bob@example.com", task_id="t2"))
    assert [taken.recipients for taken in server.mails] == [["bob@example.com"]]
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer", ["530 5.7.0 authentication required", "535 5.7.8 who are you", "503 bad sequence"]
)
async def test_an_answer_about_us_and_not_about_the_mail_is_tried_again(
    answer: str, serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    server.answers["MAIL"].append(answer)
    sender = send_to(server)
    with pytest.raises(NotSent, match=answer):
        await sender.send(a_mail())
    await sender.send(a_mail())
    assert (len(server.mails), server.connections) == (1, 2)


async def test_the_servers_words_become_one_line_of_valid_text(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    latin_1 = "boîte pleine".encode("latin-1")
    server.answers["RCPT"].append(b"550-5.2.2 " + latin_1 + b"\r\n550 \x1b[31m" + b"x" * 2000)
    server.answers["DATA"].append(b"250 kept: " + latin_1)
    sender = send_to(server)
    with pytest.raises(Reject) as rejected:
        await sender.send(a_mail())
    assert "RCPT TO: 550 5.2.2 bo\ufffdte pleine [31mxxx" in rejected.value.reason
    assert len(rejected.value.reason) < 600 and rejected.value.reason.isprintable()
    accepted = await sender.send(a_mail())
    accepted.encode()
    assert accepted.endswith("bo\ufffdte pleine")


async def test_a_mail_larger_than_the_server_takes_is_told_apart(serve: Serve, send_to: SendTo) -> None:
    server = await serve(largest=20_000)
    sender = send_to(server)
    with pytest.raises(MailTooLarge, match="552"):
        await sender.send(a_mail(pdf=b"x" * 30_000))
    await sender.send(a_mail())
    assert (len(server.mails), server.connections) == (1, 1)


async def test_a_full_mailbox_is_not_taken_for_a_large_mail(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    server.answers["RCPT"].append("552 5.2.2 mailbox full")
    with pytest.raises(Reject) as rejected:
        await send_to(server).send(a_mail())
    assert not isinstance(rejected.value, MailTooLarge)


@pytest.mark.parametrize("stage", ["RCPT", "DATA"])
async def test_a_connection_that_breaks_in_the_middle_of_a_mail_is_tried_again_later(
    stage: str, serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    server.answers[stage].append(HANG_UP)
    sender = send_to(server)
    with pytest.raises(NotSent, match=stage):
        await sender.send(a_mail(task_id="t1"))
    await sender.send(a_mail(task_id="t2"))
    assert (len(server.mails), server.connections) == (1, 2)


@pytest.mark.parametrize("stage", ["EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_server_that_falls_silent_is_given_up_in_time(
    stage: str, serve: Serve, send_to: SendTo, clock: ManualClock
) -> None:
    server = await serve()
    server.answers[stage].append(SILENCE)
    sender = send_to(server, connect_timeout=SHORT, reply_timeout=SHORT, accept_timeout=SHORT)
    async with asyncio.timeout(2):
        with pytest.raises(NotSent):
            await sender.send(a_mail(task_id="t1"))
    clock.advance(timedelta(seconds=2))
    await sender.send(a_mail(task_id="t2"))
    assert (len(server.mails), server.connections) == (1, 2)


async def test_a_server_that_never_greets_is_given_up_in_time(send_to: SendTo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        sender = send_to(SmtpServer("127.0.0.1", mute.getsockname()[1], "plain"), connect_timeout=SHORT)
        async with asyncio.timeout(2):
            with pytest.raises(NotSent, match="did not answer in time"):
                await sender.send(a_mail())


async def test_nobody_listening_is_tried_again_later(send_to: SendTo, unused_tcp_port: int) -> None:
    with pytest.raises(NotSent, match=f"127.0.0.1:{unused_tcp_port} cannot be used"):
        await send_to(SmtpServer("127.0.0.1", unused_tcp_port, "plain")).send(a_mail())


async def test_a_server_that_is_away_is_asked_once_for_all_who_wait(
    serve: Serve, send_to: SendTo, clock: ManualClock
) -> None:
    server = await serve()
    server.answers["EHLO"].extend(["554 5.3.0 not today"] * 9)
    sender = send_to(server)
    outcomes = await asyncio.gather(*(sender.send(a_mail()) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(outcome, NotSent) for outcome in outcomes)
    assert server.connections == 1
    server.answers["EHLO"].clear()
    clock.advance(timedelta(seconds=2))
    await sender.send(a_mail())
    assert len(server.mails) == 1


async def test_a_cancelled_mail_leaves_no_answer_behind_for_the_next(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    server.answers["RCPT"].append(SILENCE)
    sender = send_to(server)
    slow = asyncio.create_task(sender.send(a_mail("slow@example.com")))
    await wait_until(lambda: "RCPT" in server.seen)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    await sender.send(a_mail("bob@example.com"))
    assert [taken.recipients for taken in server.mails] == [["bob@example.com"]]
    assert server.connections == 2


async def test_a_mail_that_is_cancelled_while_it_is_cleared_away_leaves_no_answer_behind(
    serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    server.answers["RCPT"].append("550 no such user")
    server.answers["RSET"].append(SILENCE)
    sender = send_to(server)
    slow = asyncio.create_task(sender.send(a_mail("slow@example.com")))
    await wait_until(lambda: "RSET" in server.seen)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    await sender.send(a_mail("bob@example.com"))
    assert ([taken.recipients for taken in server.mails], server.connections) == ([["bob@example.com"]], 2)


async def test_a_cancelled_wait_for_the_turn_disturbs_nobody(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    sender = send_to(server)
    sends = [asyncio.create_task(sender.send(a_mail(task_id=f"t{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    sends[2].cancel()
    outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert [isinstance(o, asyncio.CancelledError) for o in outcomes] == [False, False, True, False, False]
    assert (len(server.mails), server.connections) == (4, 1)


async def test_who_waits_too_long_for_the_turn_tries_again_later(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    server.answers["DATA"].append(SILENCE)
    sender = send_to(server, longest_wait=SHORT)
    slow = asyncio.create_task(sender.send(a_mail("slow@example.com")))
    await wait_until(lambda: "DATA" in server.seen)
    with pytest.raises(NotSent, match="busy with other mails"):
        await sender.send(a_mail("bob@example.com"))
    assert not slow.done()
    slow.cancel()
    await asyncio.wait([slow])
    await sender.send(a_mail("bob@example.com"))
    assert [taken.recipients for taken in server.mails] == [["bob@example.com"]]


async def test_an_idle_connection_is_closed_and_the_next_mail_opens_another(
    serve: Serve, send_to: SendTo
) -> None:
    server = await serve()
    sender = send_to(server, idle_close=timedelta(milliseconds=20))
    await sender.send(a_mail(task_id="t1"))
    await wait_until(lambda: not server.open_connections)
    await sender.send(a_mail(task_id="t2"))
    assert (len(server.mails), server.connections) == (2, 2)


async def test_closing_is_possible_at_any_time_and_more_than_once(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    sender = send_to(server)
    await sender.close()
    await sender.send(a_mail())
    await sender.close()
    await sender.close()
    await wait_until(lambda: not server.open_connections)
    assert len(server.mails) == 1


async def test_closing_a_connection_whose_server_is_gone_is_no_error(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    sender = send_to(server)
    await sender.send(a_mail())
    server.drop_all()
    await sender.close()


async def test_an_international_address_goes_where_it_is_understood(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    mail = a_mail("jörg@bücher.example", subject="Größe")
    await send_to(server).send(mail)
    (taken,) = server.mails
    assert taken.recipients == ["jörg@xn--bcher-kva.example"]
    assert "SMTPUTF8" in taken.options and taken.content == mail.content


async def test_an_international_address_is_rejected_where_it_is_not(serve: Serve, send_to: SendTo) -> None:
    server = await serve(smtputf8=False)
    sender = send_to(server)
    with pytest.raises(Reject, match="SMTPUTF8"):
        await sender.send(a_mail("jörg@example.com"))
    await sender.send(a_mail("ann@bücher.example"))
    assert (len(server.mails), server.connections) == (1, 1)


async def test_a_wrong_password_is_tried_again_later_and_not_at_once(
    serve: Serve, send_to: SendTo, clock: ManualClock
) -> None:
    server = await serve(logins={"mesh": "right"})
    sender = send_to(server.address("mesh", "wrong-secret"))
    with pytest.raises(NotSent, match="refused the login: 535") as refused:
        await sender.send(a_mail())
    attempts = server.login_attempts
    with pytest.raises(NotSent, match="refused the login"):
        await sender.send(a_mail())
    assert "wrong-secret" not in str(refused.value)
    assert server.login_attempts == attempts > 0
    server.logins["mesh"] = "wrong-secret"
    clock.advance(LOGIN_HOLD_OFF)
    await sender.send(a_mail())
    assert server.mails[0].login == "mesh"


async def test_a_server_that_offers_no_login_is_tried_again_later(serve: Serve, send_to: SendTo) -> None:
    server = await serve()
    with pytest.raises(NotSent, match=r"(?i)auth"):
        await send_to(server.address("mesh", "x")).send(a_mail())
    assert not server.mails
