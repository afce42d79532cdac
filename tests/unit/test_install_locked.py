"""What an image installs: the lock's own lines, and never the kit from a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.image import install_locked

LOCK = """\
Foo.Bar==1.2 ; python_version < '3.14' \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via a comment
# a line of its own
baz==3 \\
    --hash=sha256:cc
"""
KIT = """\
[project]
name = "streammesh"
dependencies = ["redis>=6"]
[project.optional-dependencies]
celery = ["celery>=5.7"]
http = ["aiohttp"]
"""


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(KIT)
    return path


def test_a_lock_entry_keeps_its_marker_and_its_hashes() -> None:
    entries = install_locked.read_lock(LOCK)
    assert set(entries) == {"foo-bar", "baz"}
    assert entries["foo-bar"].startswith("Foo.Bar==1.2 ; python_version < '3.14' \\\n")
    assert entries["foo-bar"].count("--hash=") == 2
    assert entries["baz"] == "baz==3 \\\n    --hash=sha256:cc"


def test_the_kit_is_replaced_by_what_it_and_its_extras_need(kit: Path) -> None:
    lines = ["# ours", "streammesh[celery, http]  # the kit", "fastapi>=0.160", ""]
    assert install_locked.wanted(lines, kit) == ["redis>=6", "celery>=5.7", "aiohttp", "fastapi>=0.160"]
    assert install_locked.wanted(["streammesh"], kit) == ["redis>=6"]


def test_a_package_that_only_begins_like_the_kit_is_left_alone(kit: Path) -> None:
    assert install_locked.wanted(["streammesh-extras>=1"], kit) == ["streammesh-extras>=1"]


def test_an_extra_that_the_kit_does_not_have_stops_the_build(kit: Path) -> None:
    with pytest.raises(SystemExit, match="no extra 'celry'"):
        install_locked.wanted(["streammesh[celry]"], kit)


def test_the_kit_without_its_place_stops_the_build() -> None:
    with pytest.raises(SystemExit, match="--kit"):
        install_locked.wanted(["streammesh[celery]"], None)
