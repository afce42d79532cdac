"""Objects by safe names, replaced whole or not at all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from pydantic import ValidationError

from services.report_worker.object_store import ObjectMissing, ObjectTooLarge, Store, open_store
from services.report_worker.settings import ReportSettings


@pytest.fixture(params=["folder", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "new" / "store")) if request.param == "folder" else Store(MemoryStore())


def test_what_was_put_can_be_read_listed_and_deleted(any_store: Store) -> None:
    any_store.put("reports/a.pdf", b"one", "application/pdf")
    any_store.put("reports/a.pdf", b"two")
    any_store.put_json("work/a/b/job.json", {"n": 1})
    assert any_store.get("reports/a.pdf") == b"two"
    assert any_store.get_json("work/a/b/job.json") == {"n": 1}
    assert [name for name, _ in any_store.names("work")] == ["work/a/b/job.json"]
    any_store.delete(["work/a/b/job.json", "work/a/b/job.json"])
    assert list(any_store.names("work")) == []


def test_what_is_not_there_and_what_is_too_large_is_said(any_store: Store) -> None:
    with pytest.raises(ObjectMissing, match=r"uploads/x\.csv"):
        any_store.get("uploads/x.csv")
    any_store.put("uploads/x.csv", b"12345")
    with pytest.raises(ObjectTooLarge, match="has 5 bytes"):
        any_store.get("uploads/x.csv", max_bytes=4)
    assert any_store.get("uploads/x.csv", max_bytes=5) == b"12345"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x",
        "../x",
        "/etc/passwd",
        "reports/../x",
        "reports/..",
        "reports//x",
        "reports/a\x00",
        "reports/.x",
    ],
)
def test_names_that_lead_elsewhere_are_refused(any_store: Store, name: str) -> None:
    for call in (
        lambda: any_store.get(name),
        lambda: any_store.put(name, b""),
        lambda: any_store.delete([name]),
    ):
        with pytest.raises(ValueError, match="is not the name of an object"):
            call()


def test_a_reader_never_sees_half_an_object(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    bodies = [bytes([letter]) * 200_000 for letter in b"abcd"]
    store.put("reports/a.pdf", bodies[0])
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(store.put, "reports/a.pdf", body) for body in bodies * 5]
        reads = [store.get("reports/a.pdf") for _ in range(60)]
        for write in writes:
            write.result()
    assert {body for body in reads if body not in bodies} == set()
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["a.pdf"]


@pytest.mark.parametrize(
    "url", ["s3://bucket/prefix", "gs://bucket", "az://account/container", "file:///tmp/x", "var/store"]
)
def test_common_places_for_a_store_are_accepted(url: str) -> None:
    assert ReportSettings(_env_file=None, store_url=url).store_url == url


@pytest.mark.parametrize("url", ["", "  ", "ftp://x", "s3://", "http://x/y", "memory://x"])
def test_other_places_are_refused_in_words_that_help(url: str) -> None:
    with pytest.raises(ValidationError, match="should be a folder such as var/store"):
        ReportSettings(_env_file=None, store_url=url)
