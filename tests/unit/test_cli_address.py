"""Which mesh a command talks to, and with which key."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from streammesh.cli.address import NoAddress, find_address
from streammesh.cli.settings import ClientSettings

HERE, ELSEWHERE = "http://127.0.0.1:8000", "https://mesh.example"


def settings(**given: Any) -> ClientSettings:
    return ClientSettings(**given)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMMESH_URL", raising=False)
    monkeypatch.delenv("STREAMMESH_KEY", raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What `streammesh up` writes while it runs."""
    (tmp_path / "dev-key").write_text("smk_dev\n")
    file = tmp_path / "up.json"
    here = {"api_url": HERE, "key_file": str(tmp_path / "dev-key"), "environment": {}, "pid": os.getpid()}
    file.write_bytes(orjson.dumps(here))
    return file


def test_an_option_goes_before_the_environment_and_that_before_what_runs_here(place):
    env = settings(url=ELSEWHERE, key="env-key")

    assert find_address("http://a.example/", "k", env, place).url == "http://a.example"
    assert find_address("http://a.example", "k", env, place).key == "k"
    assert find_address(None, None, env, place).url == ELSEWHERE
    assert find_address(None, None, env, place).key == "env-key"
    assert find_address(None, None, settings(), place).url == HERE
    assert find_address(None, None, settings(), place).key == "smk_dev"


def test_the_key_of_the_mesh_here_goes_nowhere_else(place):
    assert find_address(f"{HERE}/", None, settings(), place).key == "smk_dev"
    with pytest.raises(NoAddress, match="an API key is needed"):
        find_address(ELSEWHERE, None, settings(), place)


def test_without_any_mesh_it_is_said_what_to_do(tmp_path):
    with pytest.raises(NoAddress, match="run `streammesh up`"):
        find_address(None, "k", settings(), tmp_path / "up.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b'"x"', b"1"])
def test_a_place_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / "up.json").write_bytes(content)
    with pytest.raises(NoAddress):
        find_address(None, None, settings(), tmp_path / "up.json")


def test_a_mesh_that_was_killed_is_none(place):
    gone = subprocess.Popen(["true"])
    gone.wait()
    place.write_bytes(orjson.dumps({**orjson.loads(place.read_bytes()), "pid": gone.pid}))
    with pytest.raises(NoAddress, match="run `streammesh up`"):
        find_address(None, "k", settings(), place)


def test_a_key_file_that_is_gone_is_no_key(place):
    (place.parent / "dev-key").unlink()
    with pytest.raises(NoAddress, match="an API key is needed"):
        find_address(None, None, settings(), place)


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("mesh.example", "k", "should start with http://"),
        (HERE, "a b", "characters that no key has"),
        (HERE, "a\nb", "characters that no key has"),
        (HERE, "schlüssel", "characters that no key has"),
    ],
)
def test_what_cannot_be_an_address_is_refused_before_anything_is_sent(place, url, key, said):
    with pytest.raises(NoAddress, match=said):
        find_address(url, key, settings(), place)


def test_a_key_is_not_shown_with_its_address(place):
    assert "smk_dev" not in repr(find_address(None, None, settings(), place))
    assert "env-key" not in repr(settings(key="env-key"))
