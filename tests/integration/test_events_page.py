"""The commands of docs/events.md, run by a shell against a real API; their answers are as the page shows them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from streammesh.embedded import free_port
from streammesh.events.envelope import from_dict
from streammesh.testing.conditions import wait_until_sync

from tests.harness.processes import ROOT, MeshProcess

SERVICES = ["tests.probe"]
PAGE = (ROOT / "docs" / "events.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|json|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
OWN = re.compile(
    r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16}|\d{4}-\d\d-\d\dT[\d:.]+Z"
)  # ids and times of each run
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@pytest.fixture(scope="module")
def environment(mesh) -> Iterator[dict[str, str]]:
    url = f"http://127.0.0.1:{free_port()}"
    key_file = mesh.folder / "dev-key"
    env = {**mesh.env, "API_PORT": url.rpartition(":")[2], "API_DEV_KEY_FILE": str(key_file)}
    with MeshProcess("api", "services.api", env, mesh.folder):

        def ready() -> bool:
            try:
                with urlopen(f"{url}/readyz", timeout=2) as answer:
                    return answer.status == 200
            except OSError:
                return False

        wait_until_sync("the API is ready", ready, seconds=30)
        yield {**os.environ, "URL": url, "KEY": key_file.read_text().strip()}


def documents(text: str) -> list[Any]:
    """JSON documents one after the other."""
    found, decoder, text = [], json.JSONDecoder(), text.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


def commands() -> list[tuple[str, list[Any]]]:
    """Each block of commands with the documents that the page shows after it."""
    found: list[tuple[str, list[Any]]] = []
    for kind, text in BLOCKS:
        if kind == "sh":
            found.append((text, []))
        elif kind == "json" and found:
            found[-1][1].extend(documents(text))
    return found


def without_what_differs(value: Any) -> Any:
    return json.loads(OWN.sub("…", json.dumps(value)))


def test_every_command_answers_what_the_page_shows(environment):
    assert len(commands()) >= 8
    for command, shown in commands():
        ran = subprocess.run(
            ["bash", "-euc", command], env=environment, capture_output=True, text=True, timeout=30, check=True
        )
        assert without_what_differs(documents(ran.stdout)) == without_what_differs(shown), command


def test_the_first_envelope_is_one():
    kind, text = BLOCKS[0]
    assert kind == "json"
    assert from_dict(json.loads(text)).subject == "order/7"


async def test_the_python_code_runs(environment, capsys):
    [code] = [text for kind, text in BLOCKS if kind == "python"]
    namespace: dict[str, Any] = {}
    exec(compile(code, "docs/events.md", "exec"), namespace)

    await namespace["tell"](environment["URL"], environment["KEY"])

    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("event.unrouted")
    assert last == "nothing ran []"
