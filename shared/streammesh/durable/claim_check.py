"""Results of steps that are too large for the ledger: in an object store, with a ticket in their place.

The object is written before its ticket is recorded, so a kill between the two leaves an object that nobody names. Objects
lie at `claims/<namespace>/<service>/<task id>/<digest>` and are removed once their task's row has left Redis; workers look for
those of their service when they have runs, one of them in an hour.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any

import orjson
import structlog
from redis.exceptions import RedisError

from streammesh.durable.drive import CallFunction, Operation, WaitSeconds
from streammesh.errors import Fail
from streammesh.keys import Keys
from streammesh.object_backend import open_backend
from streammesh.redisio.client import open_sync
from streammesh.settings import MeshSettings
from streammesh.tasks.task import TaskRef

log = structlog.get_logger(__name__)
MOST_BYTES = 67_108_864  # of one result
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between tries while the store is away; then the attempt fails
SWEEP_EVERY = timedelta(
    hours=1
)  # also how old an object is before it is looked at: its record may be on the way
_PATH = re.compile(r"claims/[a-z0-9._-]+/[a-z0-9_.-]+/[A-Za-z0-9-]{1,64}/[0-9a-f]{64}")
_BATCH = 500  # rows of tasks that are asked for at once


class StoreAway(Exception):
    """The store did not take or give a result; it is tried again with the attempt."""


class ClaimCheck:
    """The large results of one mesh. Opens the store at its first use; safe in several threads."""

    def __init__(self, settings: MeshSettings) -> None:
        self._settings, self._folder = settings, f"claims/{settings.namespace}"
        self._looked, self._lock = 0.0, threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether a store is named."""
        return self._settings.store_url is not None

    def put(self, service: str, task_id: str, raw: bytes) -> bytes:
        """Keep a result; answers its ticket. Raises StoreAway."""
        digest = hashlib.sha256(raw).hexdigest()
        path = f"{self._folder}/{service}/{task_id}/{digest}"
        try:
            self._store.put(path, raw)
        except self._refusals as error:
            raise StoreAway(f"the store of MESH_STORE_URL did not take a result: {error}"[:300]) from error
        return orjson.dumps({"claim": path, "bytes": len(raw)})

    def get(self, ticket: bytes) -> bytes:
        """Return the result of a ticket. Raises StoreAway, and Fail for one that is gone, or is not what was kept."""
        try:
            path = orjson.loads(ticket)["claim"]
            known = bool(_PATH.fullmatch(path))
        except (ValueError, TypeError, KeyError):
            known = False
        if not known:
            raise Fail(f"the ticket of a result in the store cannot be read: {ticket[:100]!r}")
        try:
            raw = bytes(self._store.get(path).bytes())
        except FileNotFoundError:
            raise Fail(f"the store of MESH_STORE_URL does not have {path} any more") from None
        except self._refusals as error:
            raise StoreAway(f"the store of MESH_STORE_URL did not give {path}: {error}"[:300]) from error
        if hashlib.sha256(raw).hexdigest() != path.rpartition("/")[2]:
            raise Fail(f"what the store of MESH_STORE_URL has at {path} is not what was kept there")
        return raw

    def tidy_in_time(self, service: str) -> None:
        """Start a look for what can go, in a thread, where none was begun here for an hour."""
        if not self.is_open or (self._looked and time.monotonic() < self._looked):
            return
        self._looked = time.monotonic() + SWEEP_EVERY.total_seconds()
        threading.Thread(target=self._tidy_quietly, args=(service,), name="claims", daemon=True).start()

    def tidy(self, service: str, older_than: timedelta = SWEEP_EVERY) -> int:
        """Remove the results of a service's tasks that Redis does not know any more; answers how many those were.

        Raises StoreAway, RedisError.
        """
        before, removed = datetime.now(UTC) - older_than, 0
        client = open_sync(self._settings, "claims")
        try:
            found: dict[str, list[str]] = {}
            for batch in self._store.list(prefix=f"{self._folder}/{service}"):
                for meta in batch:
                    if meta["last_modified"] < before and _PATH.fullmatch(meta["path"]):
                        found.setdefault(meta["path"].split("/")[-2], []).append(meta["path"])
                if len(found) >= _BATCH:
                    removed += self._remove_orphans(client, found)
                    found = {}
            return removed + self._remove_orphans(client, found)
        except self._refusals as error:
            raise StoreAway(f"the store of MESH_STORE_URL cannot be tidied: {error}"[:300]) from error
        finally:
            client.close()

    def _remove_orphans(self, client: Any, found: dict[str, list[str]]) -> int:
        keys, tasks = Keys(self._settings.namespace), list(found)
        pipe = client.pipeline(transaction=False)
        for task in tasks:
            pipe.exists(keys.task(task))
        gone = [
            path
            for task, known in zip(tasks, pipe.execute(), strict=True)
            if not known
            for path in found[task]
        ]
        for path in gone:
            try:
                self._store.delete(path)
            except FileNotFoundError:
                continue  # another process was first
        return len(gone)

    def _tidy_quietly(self, service: str) -> None:
        mark = f"{self._folder}/{service}/tidied"
        try:
            try:
                if datetime.now(UTC) - self._store.head(mark)["last_modified"] < SWEEP_EVERY:
                    return
            except FileNotFoundError:
                pass
            self._store.put(mark, b"")
            if removed := self.tidy(service):
                log.info("claims.removed", count=removed)
        except (Fail, StoreAway, RedisError, *self._refusals) as error:
            log.warning("claims.not_tidied", reason=str(error)[:300])

    @cached_property
    def _refusals(self) -> tuple[type[Exception], ...]:
        try:
            from obstore.exceptions import BaseError
        except ImportError:
            return (OSError,)
        return (BaseError, OSError)

    @cached_property
    def _store(self) -> Any:
        url = self._settings.store_url
        if url is None:
            raise Fail("results that large are in a store, and MESH_STORE_URL names none here")
        try:
            return open_backend(url, retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)})
        except ImportError:
            raise Fail("MESH_STORE_URL is set: install streammesh[store]") from None


def checked_in(claims: ClaimCheck, task: TaskRef, name: str, raw: bytes, most: int) -> Operation:
    """Keep a result of more than `most` bytes; answers its ticket. Raises Fail, StoreAway."""
    size = f"step {name!r} returned {len(raw):,} bytes"
    if not claims.is_open:
        raise Fail(
            f"{size}, and {most:,} can be recorded in Redis; set MESH_STORE_URL for larger ones, "
            "or store it elsewhere and return where it is"
        )
    if len(raw) > MOST_BYTES:
        raise Fail(f"{size}, and {MOST_BYTES:,} can be kept; store it elsewhere and return where it is")
    return (yield from _insisting(partial(claims.put, task.service, task.task_id, raw)))


def checked_out(claims: ClaimCheck, ticket: bytes) -> Operation:
    """Return the result of a ticket. Raises Fail, StoreAway."""
    return (yield from _insisting(partial(claims.get, ticket)))


def _insisting(ask: Any) -> Operation:
    for pause in PAUSES:
        try:
            return (yield CallFunction(ask))
        except StoreAway as error:
            log.warning("store.away", reason=str(error))
        yield WaitSeconds(pause)
    return (yield CallFunction(ask))
