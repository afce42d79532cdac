"""What `streammesh up` makes of programs that print much, and of those that cannot start."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest
from rich.console import Console
from streammesh.cli import supervisor
from streammesh.cli.supervisor import Program, Supervisor, lines


async def read(*chunks: bytes, limit: int = 20) -> list[str]:
    stream = asyncio.StreamReader()
    for chunk in chunks:
        stream.feed_data(chunk)
    stream.feed_eof()
    return [line async for line in lines(stream, limit)]


async def test_lines_are_whole_however_they_come():
    assert await read(b"one\ntw", b"o\n", b"\nthree") == ["one", "two", "", "three"]
    assert await read() == []
    assert await read(b"\xff\n") == ["\N{REPLACEMENT CHARACTER}"]


async def test_a_line_without_end_is_cut_and_what_is_left_out_counted():
    assert await read(b"x" * 15, b"y" * 2_000_000, b"\nnext\n") == [
        "x" * 15 + "y" * 5 + " (1,999,995 bytes more)",
        "next",
    ]


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


async def watch(shown: io.StringIO, *programs: Program, until: str) -> Supervisor:
    console = Console(file=shown, highlight=False, soft_wrap=True)
    running, stop = Supervisor(programs, console=console), asyncio.Event()
    task = asyncio.create_task(running.run(stop, grace=5))
    async with asyncio.timeout(20):
        while until not in shown.getvalue():
            await asyncio.sleep(0.02)
    stop.set()
    await task
    return running


def python(name: str, code: str) -> Program:
    return Program(name, [sys.executable, "-c", code])


async def test_a_line_of_two_megabytes_ends_nothing(shown):
    code = "import time; print('x' * 2_000_000); print('after it', flush=True); time.sleep(30)"
    await watch(shown, python("loud", code), until="after it")
    assert "bytes more" in shown.getvalue() and len(shown.getvalue()) < 20_000


async def test_one_that_cannot_start_is_named_in_one_line_and_tried_less_and_less_often(shown, monkeypatch):
    monkeypatch.setattr(supervisor, "RESTART_SECONDS", 0.05)
    running = await watch(
        shown,
        python("broken", "import no_such_module"),
        python("fine", "import time; print('fine', flush=True); time.sleep(30)"),
        until="in 0.4 s",
    )
    said = [line for line in shown.getvalue().splitlines() if "ended with code" in line]
    reason = "ended with code 1: ModuleNotFoundError: No module named 'no_such_module'"
    assert [line.partition("; ")[2] for line in said] == [
        f"it is started again in {n} s" for n in ("0.05", "0.1", "0.2", "0.4")
    ]
    assert all(reason in line for line in said)
    assert running.broken == {"broken": reason}
    assert "fine   | fine" in shown.getvalue()
