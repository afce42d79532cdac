"""The object store as the door sees it: finished reports are read, uploaded sources are written.

The report worker lays it out: `reports/<report_id>.pdf`, `reports/<report_id>.json` (written after the
PDF), `uploads/<key>/<report_id>.csv` or `.json`: a folder for each API key, whose uploads no other key's
reports are made of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import obstore
import orjson
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore
from streammesh.object_backend import open_backend

from services.api.problems import Problem, unavailable

log = structlog.get_logger(__name__)

REMOTE_TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a response needs to know of a file before it is sent."""

    path: str
    size: int
    etag: str  # with its quotes
    modified: datetime


class ReportStore:
    """The reports of one mesh."""

    def __init__(self, backend: ObjectStore) -> None:
        self._backend = backend

    async def metadata(self, report_id: str) -> dict[str, Any] | None:
        """What a finished report is; None while there is none."""
        try:
            with _reachable():
                found = await obstore.get_async(self._backend, f"reports/{report_id}.json")
                value = orjson.loads(bytes(await found.bytes_async()))
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        return value if isinstance(value, dict) else None

    async def pdf(self, report_id: str) -> StoredFile | None:
        """The file of a finished report; None while there is none."""
        path = f"reports/{report_id}.pdf"
        try:
            with _reachable():
                meta = await obstore.head_async(self._backend, path)
        except FileNotFoundError:
            return None
        etag = str(meta["e_tag"] or f"{meta['size']:x}-{meta['last_modified'].timestamp():.0f}")
        return StoredFile(
            path, int(meta["size"]), f'"{etag.removeprefix("W/").strip(chr(34))}"', meta["last_modified"]
        )

    async def content(self, file: StoredFile, first: int, after: int) -> AsyncIterator[bytes]:
        """The bytes of a file from position `first` up to, not including, `after`, in chunks."""
        found = await obstore.get_async(self._backend, file.path, options={"range": (first, after)})
        async for chunk in found.stream():
            yield bytes(chunk)

    async def upload(
        self, owner: str, report_id: str, suffix: str, body: bytes, *, most_bytes: int, most_files: int
    ) -> str:
        """Keep a source file of a key and return its name. The same file again is no error.

        Raises Problem (409) when another file was uploaded for this report: it may be in use; and (429) when
        the key has as much in the store as it may have.
        """
        path = upload_path(owner, report_id, suffix)
        with _reachable():
            await self._check_room(f"uploads/{owner}", path, len(body), most_bytes, most_files)
            try:
                await obstore.put_async(self._backend, path, body, mode="create")
            except AlreadyExistsError:
                found = await obstore.get_async(self._backend, path)
                if bytes(await found.bytes_async()) != body:
                    raise Problem(
                        "upload-conflict", f"Another file was uploaded for the report {report_id!r}."
                    ) from None
        return path

    async def _check_room(self, folder: str, path: str, size: int, most_bytes: int, most_files: int) -> None:
        """Raises Problem unless one more file fits. Uploads that arrive together may pass the limit by one each."""
        files = 0
        async for batch in obstore.list(self._backend, prefix=folder):
            for meta in batch:
                if meta["path"] == path:
                    return  # it is there already
                files, size = files + 1, size + int(meta["size"])
        if files >= most_files or size > most_bytes:
            raise Problem(
                "quota-exceeded",
                f"The store keeps at most {most_files:,} uploads and {most_bytes:,} bytes for one key;"
                " old ones are removed after REPORT_UPLOADS_KEPT.",
            )


def upload_path(owner: str, report_id: str, suffix: str) -> str:
    """Return the name of an upload in the store; names of keys and ids of reports are safe in one."""
    return f"uploads/{owner}/{report_id}.{suffix}"


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except BaseError as error:
        log.warning("report_store.failed", reason=type(error).__name__, exc_info=error)
        raise unavailable("The report store cannot be reached. Send the same request again.") from error


def open_report_store(url: str) -> ReportStore:
    """The store at a folder path, file://, s3://, gs:// or az://; a folder is made if it is not there."""
    return ReportStore(
        open_backend(
            url,
            removes_empty_folders=False,
            client_options={"timeout": REMOTE_TIMEOUT, "connect_timeout": timedelta(seconds=5)},
            retry_config={"max_retries": 3, "retry_timeout": REMOTE_TIMEOUT},
        )
    )
