"""Reads finished reports out of the store that the report worker writes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore, from_url
from streammesh import Reject


class ReportFiles:
    """A folder, or an object store by URL (`s3://bucket/prefix`, `gs://`, `az://`); opened at the first read."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: Any = None

    async def read(self, key: str, *, at_most: int) -> bytes | None:
        """The object's bytes; None where it is larger than `at_most` bytes or not there.

        Raises Reject for a key that leads out of the store, and the store's own error when it cannot be
        reached, which is worth another attempt.
        """
        try:
            store = self._opened()
            if store is None:
                return None
            found = await obstore.get_async(store, key)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Reject(
                f"not the name of a stored report: {str(error).partition('Debug source')[0].strip()}"
            ) from None
        if found.meta["size"] > at_most:
            return None
        return bytes(await found.bytes_async())

    def _opened(self) -> Any:
        """The store; None while its folder does not exist, which the report worker makes at its first report."""
        if self._store is None:
            if "://" in self._url:
                self._store = from_url(self._url)
            elif Path(self._url).is_dir():
                self._store = LocalStore(Path(self._url))
        return self._store
