"""The mail catcher as `streammesh up` runs it: a process of its own, spoken to over SMTP."""

from __future__ import annotations

import email
import email.policy
import re
import select
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from streammesh.cli.mail_catcher import main

MAIL = b"Message-ID: <0b1c-22@example.com>\r\nSubject: Hello\r\n\r\n.a dot\r\nGr\xc3\xbc\xc3\x9fe\r\n"
WITHIN = 10  # seconds


@dataclass
class Catcher:
    process: subprocess.Popen[str]
    port: int
    folder: Path

    def mails(self) -> list[Path]:
        return sorted(self.folder.iterdir())

    def send(self, content: bytes = MAIL, to: str = "ann+x@example.com") -> None:
        with smtplib.SMTP("127.0.0.1", self.port, timeout=WITHIN) as client:
            client.sendmail("mesh@example.com", [to], content)

    def next_log(self, name: str) -> str:
        """The next log line with this event name."""
        assert self.process.stderr
        while select.select([self.process.stderr], [], [], WITHIN)[0]:
            line = self.process.stderr.readline()
            assert line, "the catcher ended"
            if name in line:
                return line
        raise AssertionError(f"no {name} in the log")


def start(place: Path) -> Catcher:
    folder = place / "mail"
    process = subprocess.Popen(
        [
            *(sys.executable, "-X", "dev", "-W", "error", "-m", "streammesh.cli.mail_catcher"),
            *("--port", "0", "--folder", str(folder)),
        ],
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        cwd=place,
        env={"MESH_LOG_FORMAT": "json", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    started = Catcher(process, 0, folder)
    listening = re.search(r'"port":(\d+)', started.next_log("mail_catcher.listening"))
    assert listening
    started.port = int(listening[1])
    return started


def end(catcher: Catcher) -> None:
    if catcher.process.poll() is None:
        catcher.process.kill()
    catcher.process.communicate(timeout=WITHIN)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catcher]:
    started = start(tmp_path_factory.mktemp("catcher"))
    yield started
    end(started)


@pytest.fixture
def catcher(running: Catcher) -> Iterator[Catcher]:
    """The one that runs; its folder goes with each test, and comes back with the next mail."""
    yield running
    shutil.rmtree(running.folder, ignore_errors=True)


def test_a_mail_becomes_one_file_with_what_was_sent(catcher: Catcher) -> None:
    catcher.send()
    (path,) = catcher.mails()
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}Z-ann\+x@example\.com-0b1c-22@example\.com\.eml", path.name)
    assert str(path) in catcher.next_log("mail.caught")
    assert path.read_bytes().endswith(MAIL)
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert message["Delivered-To"] == "ann+x@example.com"
    assert message["Return-Path"] == "<mesh@example.com>"
    assert message["Subject"] == "Hello"


def test_the_same_mail_twice_is_two_files_and_no_half_file_is_left(catcher: Catcher) -> None:
    for _ in range(3):
        catcher.send()
    assert [path.suffix for path in catcher.mails()] == [".eml"] * 3


def test_a_message_id_cannot_lead_out_of_the_folder(catcher: Catcher) -> None:
    catcher.send(b"Message-ID: <../../../evil\x00/x>\r\n\r\nhi\r\n", to='"../../a/b"@example.com')
    catcher.send(b"no headers at all\r\n")
    assert len(catcher.mails()) == 2
    assert [path.name for path in catcher.folder.parent.iterdir()] == ["mail"]


def test_a_mail_that_cannot_be_stored_is_not_accepted(catcher: Catcher) -> None:
    catcher.folder.write_text("a file where the folder should be")
    with pytest.raises(smtplib.SMTPDataError) as refused:
        catcher.send()
    assert refused.value.smtp_code == 451
    catcher.folder.unlink()
    catcher.send()
    assert len(catcher.mails()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_with_a_client_connected(
    number: signal.Signals, tmp_path: Path
) -> None:
    catcher = start(tmp_path)
    with socket.create_connection(("127.0.0.1", catcher.port), timeout=WITHIN) as client:
        assert client.recv(100).startswith(b"220")
        catcher.process.send_signal(number)
        _, said = catcher.process.communicate(timeout=WITHIN)
    assert catcher.process.returncode == 0
    assert "mail_catcher.stopped" in said
    assert "Traceback" not in said and "Warning" not in said


def test_a_port_that_is_taken_is_said_in_one_line(catcher: Catcher) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "streammesh.cli.mail_catcher", "--port", str(catcher.port)],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert second.returncode == 1
    assert (
        second.stderr == f"mail_catcher: cannot listen on 127.0.0.1:{catcher.port}: Address already in use\n"
    )


@pytest.mark.parametrize("port", ["80000", "-1", "smtp"])
def test_a_wrong_port_is_said(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--port={port}"])
    assert ended.value.code == 2
    assert f"'{port}' is not a port between 0 and 65535" in capsys.readouterr().err
