"""The email worker as it is deployed: a process of its own, an event in, a mail at a real mail server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from streammesh.testing.conditions import wait_until, wait_until_sync

from services.email_worker.tests.mail_server import SILENCE, MailServer
from tests.harness.processes import MeshProcess

SERVICES: list[str] = []  # the worker is started here, because it is killed here

ANN = {"user_id": 42, "email": "ann+news@example.com", "name": "Ann"}
REPORT = {
    "report_id": "r1",
    "title": "Sales",
    "object": "reports/r1.pdf",
    "size_bytes": 9,
    "pages": 1,
    "rows": 10,
    "recipient": "ann@example.com",
    "download_path": "/v1/reports/r1.pdf",
}


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    """A mail server that outlives the tests' event loops: its own runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="mail-server")
    thread.start()
    started = MailServer()
    asyncio.run_coroutine_threadsafe(started.start(), loop).result(10)
    yield started
    asyncio.run_coroutine_threadsafe(started.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(autouse=True)
def nothing_from_before(server: MailServer) -> None:
    server.mails.clear()
    server.seen.clear()


@pytest.fixture(scope="module")
def worker(mesh, server: MailServer) -> Iterator[MeshProcess]:
    store = mesh.folder / "store"
    (store / "reports").mkdir(parents=True)
    (store / "reports" / "r1.pdf").write_bytes(b"%PDF-1.7\n")
    env = {
        **mesh.env,
        "EMAIL_SMTP_URL": f"smtp://127.0.0.1:{server.port}",
        "EMAIL_PUBLIC_URL": "https://mesh.example",
        "REPORT_STORE_URL": str(store),
    }
    with MeshProcess("email_worker", "services.email_worker", env, mesh.folder) as process:
        yield process
    log = Path(process.log).read_text()
    # An attempt that fails is in the log with where it failed; anything else that was raised is a fault.
    raised = [line for line in log.splitlines() if "Traceback" in line]
    assert not [line for line in raised if '"event":"task.' not in line], raised
    assert "ann+news@" not in log and "ann@" not in log


@pytest.fixture(autouse=True)
async def alive(ask, worker: MeshProcess) -> None:
    async def shows_life() -> bool:
        return bool(await ask.redis.zcard(ask.mesh.keys.alive("email_worker")))

    await wait_until("the email worker shows life", shows_life, seconds=30)


async def test_who_registers_gets_a_mail_and_the_outcome_is_pushed(ask, server):
    event_id = await ask.publish("user.registered", ANN)
    [task] = await ask.ended(event_id)

    [taken] = server.mails
    message = message_from_bytes(taken.content, policy=default)
    assert taken.recipients == ["ann+news@example.com"]
    assert message["Subject"] == "Welcome to streammesh, Ann"
    assert message["Message-ID"] == f"<{task.id}@example.com>"
    assert (task.state, task.attempt) == ("succeeded", 1)
    assert task.result == {
        "status": "sent",
        "message_id": f"<{task.id}@example.com>",
        "recipient": "a***@example.com",
        "attached": False,
        "server": "2.0.0 queued as 4711",
    }
    assert await ask.told(event_id) == ["task.queued", "task.started", "task.succeeded", "event.completed"]


async def test_many_mails_at_once_go_over_one_connection(ask, server):
    before = server.connections
    ids = [await ask.publish("user.registered", {**ANN, "user_id": n}) for n in range(60)]
    for event_id in ids:
        [task] = await ask.ended(event_id)
        assert task.state == "succeeded"

    assert (
        len({message_from_bytes(taken.content)["Message-ID"] for taken in server.mails})
        == len(server.mails)
        == 60
    )
    assert server.connections - before <= 1


async def test_a_report_is_mailed_with_its_pdf(ask, server):
    task = await ask.run("report.generated", REPORT, source="report_worker")

    [taken] = server.mails
    [pdf] = message_from_bytes(taken.content, policy=default).iter_attachments()
    assert pdf.get_content() == b"%PDF-1.7\n"
    assert task.result["attached"] is True


async def test_a_report_for_nobody_is_no_task(ask, server):
    event_id = await ask.publish("report.generated", {**REPORT, "recipient": None}, source="report_worker")
    assert await ask.ended(event_id) == []
    assert server.mails == []


async def test_a_4xx_is_tried_again_until_the_mail_is_taken(ask, server):
    server.answers["RCPT"].extend(["450 4.2.0 greylisted", "451 4.3.0 later"])
    event_id = await ask.publish("user.registered", ANN)
    [task] = await ask.ended(event_id)

    assert (task.state, task.attempt, len(server.mails)) == ("succeeded", 3, 1)
    assert (await ask.told(event_id)).count("task.retrying") == 2


async def test_a_5xx_is_a_dead_letter_with_the_servers_words(ask, server):
    server.answers["RCPT"].append("550 5.1.1 no such user here")
    task = await ask.run("user.registered", ANN)

    assert (task.state, task.attempt) == ("failed", 1)
    assert task.error["reason"].endswith("at RCPT TO: 550 5.1.1 no such user here")
    content = await ask.letters.content(await ask.letters.get(task.id))
    assert content["envelope"]["data"] == ANN
    assert server.mails == []


async def test_an_address_with_a_header_in_it_is_a_dead_letter_and_no_mail(ask, server):
    task = await ask.run("user.registered", {**ANN, "email": "ann@example.com\r\nBcc: eve@example.com"})

    assert task.state == "failed"
    assert task.error["reason"].startswith("not one valid e-mail address")
    assert server.mails == []


async def test_a_worker_killed_while_the_server_accepts_sends_again_under_the_same_message_id(
    ask, server, worker
):
    server.answers["DATA"].append(SILENCE)
    event_id = await ask.publish("user.registered", ANN)
    await asyncio.to_thread(wait_until_sync, "the mail is on its way", lambda: "DATA" in server.seen)

    worker.kill()
    worker.start()
    [task] = await ask.ended(event_id, seconds=40)

    [taken] = server.mails
    assert message_from_bytes(taken.content)["Message-ID"] == f"<{task.id}@example.com>"
    assert (task.state, task.attempt) == ("succeeded", 2)
