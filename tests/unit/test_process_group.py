"""The parent of a service's processes, with children that behave as they are told to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from streammesh import process_group
from streammesh.errors import InvalidManifest
from streammesh.process_group import ProcessGroup, merged, own_command, reap_strangers
from streammesh.service import Service
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until, wait_until_sync

CHILD = """
import json, os, pathlib, signal, socket, sys, time
told, fd = os.environ["STREAMMESH_GROUP_PLACE"].split(":")
number = told.partition("/")[0]
link = socket.socket(fileno=int(fd))
folder = pathlib.Path(sys.argv[1])
with (folder / "started").open("a") as file:
    file.write(f"{number} {os.getpid()}\\n")
signal.signal(signal.SIGQUIT, lambda *_: os._exit(7))
def read(name):
    try:
        return (folder / f"{name}-{number}").read_text()
    except OSError:
        return None
link.settimeout(0.02)
while True:
    if code := read("exit"):
        os._exit(int(code))
    if not read("silent"):
        link.send(json.dumps({"dead": read("dead"), "unready": read("unready")}).encode() + b"\\n")
    try:
        if link.recv(1) == b"" and not read("deaf"):
            os._exit(0)
    except TimeoutError:
        pass
    except OSError:
        os._exit(0)
    time.sleep(0.01)
"""


class Stage:
    """A group of two such children; files tell them how to behave."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        (folder / "child.py").write_text(CHILD)
        made = MeshSettings(_env_file=None, **cast("Any", {"drain": "0.1s", **settings}))
        self.group = ProcessGroup([sys.executable, str(folder / "child.py"), str(folder)], 2, made)

    def tell(self, number: int, what: str, how: str = "yes") -> None:
        (self.folder / f"{what}-{number}").write_text(how)

    def untell(self, number: int, what: str) -> None:
        (self.folder / f"{what}-{number}").unlink()

    def started(self, number: int) -> list[int]:
        """The process ids that this number has had."""
        try:
            lines = (self.folder / "started").read_text().split("\n")
        except OSError:
            return []
        return [int(one.split()[1]) for one in lines if one.startswith(f"{number} ")]

    def state(self) -> tuple[str, str]:
        """What its health port says."""
        return self.group.health.live()["status"], self.group.health.ready()["status"]

    def said(self, number: int) -> str:
        return str(self.group.health.ready()["parts"][f"process {number}"]["detail"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[int]]:
        task = asyncio.create_task(self.group.run())
        try:
            await until("both are ready", lambda: self.state() == ("ok", "ready"))
            yield task
        finally:
            if not task.done():
                self.group._told(signal.SIGQUIT)
                await asyncio.wait_for(task, 10)


async def until(what: str, condition: Callable[[], object]) -> None:
    async def asked() -> object:
        return condition()

    await wait_until(what, asked)


async def test_a_child_that_ends_is_started_again_and_the_other_is_left_alone(tmp_path):
    stage = Stage(tmp_path)
    async with stage.running():
        os.kill(stage.started(1)[0], signal.SIGKILL)
        await until("it says so", lambda: "exit code -9" in stage.said(1))
        assert (stage.state(), stage.said(2)) == (("ok", "not ready"), "works")
        await until("it is back", lambda: stage.state() == ("ok", "ready"))
        assert (len(stage.started(1)), len(stage.started(2))) == (2, 1)


async def test_one_that_ends_again_and_again_is_waited_for_longer_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(process_group, "FIRST_WAIT", 0.01)
    stage = Stage(tmp_path)
    async with stage.running():
        stage.tell(1, "exit", "3")
        await until("it was started several times", lambda: "in 0.08 s" in stage.said(1))
        assert len(stage.started(1)) >= 4


async def test_one_that_says_that_it_is_dead_is_replaced_and_killed_when_it_does_not_drain(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(process_group, "END_SECONDS", 0.2)
    monkeypatch.setattr(process_group, "LOOK_SECONDS", 0.05)
    stage = Stage(tmp_path)
    async with stage.running():
        stage.tell(1, "deaf")
        stage.tell(1, "dead", "its loop does not turn")
        await until("the port says so", lambda: stage.state()[0] == "dead")
        assert "its loop does not turn" in stage.said(1)
        await until("it was killed", lambda: "exit code -9" in stage.said(1))
        stage.untell(1, "dead")
        await until("another is ready", lambda: stage.state() == ("ok", "ready"))


async def test_one_that_falls_silent_is_not_ready_and_then_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(process_group, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(process_group, "LOOK_SECONDS", 60.0)
    stage = Stage(tmp_path, stuck_after="1s")
    async with stage.running():
        stage.tell(2, "silent")
        await until("it is not ready", lambda: "told nothing" in stage.said(2))
        assert stage.state()[0] == "ok"
        await until("it counts as dead", lambda: stage.state()[0] == "dead")


async def test_a_first_signal_drains_and_a_second_one_ends_at_once(tmp_path):
    stage = Stage(tmp_path, drain="60s")
    async with stage.running() as task:
        stage.tell(1, "deaf")
        os.kill(os.getpid(), signal.SIGTERM)
        await until(
            "one has ended", lambda: "exit code" not in stage.said(2) and not task.done() and gone(stage, 2)
        )
        os.kill(os.getpid(), signal.SIGINT)
        assert await asyncio.wait_for(task, 10) == 7
        assert gone(stage, 1)


def gone(stage: Stage, number: int) -> bool:
    try:
        os.kill(stage.started(number)[-1], 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_group_whose_child_refuses_its_settings_ends_with_its_code(tmp_path):
    stage = Stage(tmp_path)
    for number in (1, 2):
        stage.tell(number, "exit", "2")
    assert await asyncio.wait_for(stage.group.run(), 15) == 2


def test_what_a_killed_child_has_left_is_buried_and_a_child_is_left_to_be_waited_for():
    stranger = subprocess.Popen([sys.executable, "-c", ""])
    wait_until_sync("it has ended", lambda: os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT))
    reap_strangers({stranger.pid})
    assert os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
    reap_strangers(set())
    with pytest.raises(ChildProcessError):
        os.waitpid(stranger.pid, 0)
    stranger.returncode = 0  # it cannot be waited for any more


def test_metrics_of_all_processes_are_told_together_with_their_numbers():
    told = merged(
        {
            1: '# HELP a_total Meaning.\n# TYPE a_total counter\na_total{x="{ 1"} 1.0\n# HELP b Other.\n# TYPE b gauge\nb 2.0\n',
            2: '# HELP a_total Meaning.\n# TYPE a_total counter\na_total{x="2"} 3.0\n',
            3: "",
        }
    ).decode()

    families = {family.name: family for family in text_string_to_metric_families(told)}
    assert [(s.labels, s.value) for s in families["a"].samples] == [
        ({"process": "1", "x": "{ 1"}, 1.0), ({"process": "2", "x": "2"}, 3.0)
    ]  # fmt: skip
    assert [(s.labels, s.value) for s in families["b"].samples] == [({"process": "1"}, 2.0)]
    assert told.count("# TYPE a_total") == 1


def test_a_program_without_a_file_or_module_is_refused(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["-c"])
    with pytest.raises(InvalidManifest, match="no file or module"):
        own_command()


def test_a_prefork_service_refuses_processes():
    service = Service("forking", pool="prefork", settings=MeshSettings(_env_file=None))
    with pytest.raises(InvalidManifest, match="MESH_CONCURRENCY"):
        service.run([], processes=2)
    with pytest.raises(InvalidManifest, match="from 1 to 256"):
        service.run([], processes=0)
