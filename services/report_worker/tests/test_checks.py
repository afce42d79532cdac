"""What `streammesh doctor` says of the store of reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.report_worker import checks
from services.report_worker.object_store import Store
from services.report_worker.settings import ReportSettings


def settings(**values: Any) -> ReportSettings:
    return ReportSettings(_env_file=None, **values)


async def test_a_store_that_takes_objects_is_well_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    assert await checks.look(settings(store_url=str(tmp_path))) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "checks").write_text("a file in the place of a folder")
    [said] = await checks.look(settings(store_url=str(tmp_path)))
    assert said.code == "store-refuses" and "cannot be written to" in said.text
    [said] = await checks.look(settings(store_url=str(tmp_path / "checks" / "store")))
    assert said.code == "store-refuses" and "cannot be opened" in said.text


async def test_a_store_that_gives_back_something_else_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "get", lambda self, name: b"another")
    [said] = await checks.look(settings(store_url=str(tmp_path)))
    assert "gives back something else" in said.text


async def test_where_no_store_is_named_none_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPORT_STORE_URL", raising=False)
    assert await checks.look(settings()) == []
