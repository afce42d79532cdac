"""Somebody who has nothing but the quickstart: its files are written, its commands run, as they stand on the page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.quickstart import play


@pytest.mark.timeout(180)
def test_the_page_is_played_literally(tmp_path: Path) -> None:
    play(tmp_path, Path(sys.executable).parent)
    assert (tmp_path / "worker.py").exists() and (tmp_path / "test_worker.py").exists()
