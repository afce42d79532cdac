"""The object store: a local folder, or s3:// and its like, behind the few calls that this worker needs.

- `reports/<report_id>.pdf` is a report, `reports/<report_id>.json` says what it is;
- `owned/<owner>/<report_id>` counts for the quota of who asked for it, `<owner>` being a digest of the source;
- `uploads/<key>/<report_id>.csv` (or `.json`) is what the API took in for a report of this key;
- `work/<report_id>/<task_id>-<attempt>/` is what one attempt keeps until it ends.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import obstore
import orjson
from obstore.store import LocalStore, ObjectStore
from streammesh.object_backend import open_backend

if TYPE_CHECKING:
    from obstore.store import RetryConfig

NAME = re.compile(r"^[a-z]+(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){1,3}$")
RETRIES: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}


class ObjectMissing(LookupError):
    """There is no object of that name (any more)."""


class ObjectTooLarge(ValueError):
    """The object has more bytes than the caller would read. `size` says how many."""

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        super().__init__(f"{name} has {size:,} bytes")


def report_object(report_id: str) -> str:
    """Where a report's PDF is."""
    return f"reports/{report_id}.pdf"


def metadata_object(report_id: str) -> str:
    """Where it is written down what the PDF is."""
    return f"reports/{report_id}.json"


def owned_folder(source: str) -> str:
    """Where the reports of one source are counted."""
    return f"owned/{hashlib.sha256(source.encode()).hexdigest()[:32]}"


class Store:
    """Objects by name. Every put is atomic: a reader sees the old object or the new one, never a part.

    Holds threads of its own, so a process must not fork once it has one.
    """

    def __init__(self, backend: ObjectStore) -> None:
        self._backend = backend
        self._swept: datetime | None = None

    def sweep_is_due(self, now: datetime, every: timedelta) -> bool:
        """Whether nobody asked this within `every`; so it is for who asks now to sweep."""
        if self._swept is not None and now - self._swept < every:
            return False
        self._swept = now
        return True

    def put(self, name: str, body: bytes, content_type: str = "application/json") -> None:
        """Write or replace one object."""
        # A folder has nowhere to keep a content type.
        local = isinstance(self._backend, LocalStore)
        obstore.put(
            self._backend, _safe(name), body, attributes=None if local else {"Content-Type": content_type}
        )

    def get(self, name: str, max_bytes: int | None = None) -> bytes:
        """Read one object. Raises ObjectMissing, or ObjectTooLarge before it was read."""
        try:
            found = obstore.get(self._backend, _safe(name))
        except FileNotFoundError:
            raise ObjectMissing(f"there is no object {name}") from None
        if max_bytes is not None and found.meta["size"] > max_bytes:
            raise ObjectTooLarge(name, found.meta["size"])
        return bytes(found.bytes())

    def put_json(self, name: str, value: Any) -> None:
        """`put` of a value as JSON."""
        self.put(name, orjson.dumps(value))

    def get_json(self, name: str) -> Any:
        """`get` of a value that is JSON."""
        return orjson.loads(self.get(name))

    def names(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """(name, when it was last written) of all objects in a folder and below it."""
        for batch in obstore.list(self._backend, prefix=folder):
            for meta in batch:
                yield meta["path"], meta["last_modified"]

    def delete(self, names: list[str]) -> None:
        """Remove objects; what is gone already is no error."""
        for name in names:
            try:
                obstore.delete(self._backend, _safe(name))
            except FileNotFoundError:
                continue


def open_store(url: str) -> Store:
    """The store at a folder path, file://, s3://, gs:// or az://; a folder is made if it is not there.

    Credentials of remote stores are those that their own tools use (AWS_ACCESS_KEY_ID and so on).
    """
    # No client_options: obstore would then leave out those of the environment (AWS_ALLOW_HTTP). Its own time limits
    # are 5 s to connect and 30 s for a request.
    return Store(open_backend(url, retry_config=RETRIES))


def _safe(name: str) -> str:
    if not NAME.match(name) or ".." in name:
        raise ValueError(f"{name[:80]!r} is not the name of an object")
    return name
