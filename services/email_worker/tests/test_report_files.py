"""Reading reports from the store, and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from streammesh import Reject

from services.email_worker.report_files import ReportFiles


@pytest.fixture(params=["folder", "url"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ReportFiles:
    folder = tmp_path / "store"
    (folder / "reports").mkdir(parents=True)
    (folder / "reports" / "r1.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "secret.txt").write_text("secret")
    return ReportFiles(str(folder) if request.param == "folder" else folder.as_uri())


async def test_a_report_is_read(store: ReportFiles) -> None:
    assert await store.read("reports/r1.pdf", at_most=8) == b"%PDF-1.7"


async def test_a_report_that_is_too_large_is_not_read(store: ReportFiles) -> None:
    assert await store.read("reports/r1.pdf", at_most=7) is None


@pytest.mark.parametrize("key", ["reports/r2.pdf", "reports", "%2e%2e/secret.txt", "/etc/hostname"])
async def test_a_report_that_is_not_there_is_not_read(store: ReportFiles, key: str) -> None:
    assert await store.read(key, at_most=100) is None


@pytest.mark.parametrize("key", ["../secret.txt", "reports/../../secret.txt", "a//b"])
async def test_a_key_that_is_no_key_is_rejected_or_not_there(store: ReportFiles, key: str) -> None:
    try:
        assert await store.read(key, at_most=100) is None
    except Reject as rejected:
        assert "not the name of a stored report" in rejected.reason


async def test_a_store_that_does_not_exist_yet_holds_nothing(tmp_path: Path) -> None:
    assert await ReportFiles(str(tmp_path / "later")).read("r1.pdf", at_most=100) is None
