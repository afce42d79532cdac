"""`make demo` as a newcomer runs it: on a mesh that has never run before."""

from __future__ import annotations

import subprocess
import sys
from email import policy
from email.parser import BytesParser
from pathlib import Path

import pytest
from pypdf import PdfReader

from tests.harness.processes import ROOT


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that have to do with a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            said = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in said:
            found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_the_demo_does_the_main_job_on_a_fresh_mesh_and_leaves_nothing_running(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    ran = subprocess.run(
        [sys.executable, "-m", "streammesh.cli", "demo", "--folder", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr + (folder / "up.log").read_text()
    for told in ("email_worker.send_welcome", "report_worker.make_report", "email_worker.send_report"):
        assert any("task.succeeded" in line and told in line for line in ran.stdout.splitlines()), ran.stdout
    assert "duplicate = True" in ran.stdout

    [report] = (folder / "store" / "reports").glob("*.pdf")
    assert len(PdfReader(report).pages) >= 2
    mails = [
        BytesParser(policy=policy.default).parsebytes(path.read_bytes())
        for path in (folder / "mail").iterdir()
    ]
    assert sorted(len(list(mail.iter_attachments())) for mail in mails) == [0, 1]
    assert not processes_of(folder)
