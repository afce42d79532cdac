"""Registration: how a worker's manifest is stored beside those of other editions of its service, and kept there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from streammesh import lua
from streammesh.errors import InvalidManifest, MeshUnavailable
from streammesh.events.publisher import ms
from streammesh.keys import Keys
from streammesh.redisio.heartbeat import FRESH_MS, process_name
from streammesh.refused_services import FORGED, note_refusal
from streammesh.rollout.membership import Neighbours, edition_of, is_due, joined, refuse_a_stranger
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest
from streammesh.subscriptions.registry import readable, register_call
from streammesh.worker.connections import Connections

MOST_TRIES = 100  # each that fails is another worker that joined
log = structlog.get_logger(__name__)


class Registration:
    """One worker's place in its service's manifest."""

    def __init__(self, connections: Connections, keys: Keys, settings: MeshSettings, mine: Manifest) -> None:
        self._connections, self._keys, self._settings, self._mine = connections, keys, settings, mine
        self._name = process_name(mine.service)
        self._owner = owner_digest(settings, mine.service)
        self.edition = edition_of(mine)
        self._is_alone: bytes | None = None  # the stored manifest in which there is only this edition

    def join(self, *, first: bool = False, forgotten: bool = False) -> bool:
        """Store the manifest; answers whether it changed. Raises NameTaken, InvalidManifest, and redis-py's errors.

        `first`: it starts, and may take the name over. `forgotten`: Redis has lost the manifest.
        """
        with self._noting_refusals():
            changed = self._join(first and self._settings.takeover, forgotten)
        if first:
            note_refusal(self._connections.sync(), self._keys, self._mine.service)  # what was noted is over
        return changed

    def _join(self, takeover: bool, forgotten: bool) -> bool:
        for _ in range(MOST_TRIES):
            raw, around = self._look()
            whole = joined(self._mine, around, owner=self._owner, takeover=takeover)
            call = register_call(self._keys, whole, forgotten=forgotten, before=raw)
            changed = lua.run_sync(self._connections.sync(), call)
            if changed is not None:
                if takeover and around.stored is not None:
                    log.warning("name.taken_over", service=self._mine.service)
                return changed
        raise MeshUnavailable("other workers of the service register all the time")

    def renew(self) -> None:
        """Join anew where the manifest does not have this edition, or one that has left. Raises as `join`."""
        raw, sealed = self._stored()
        if raw is not None and raw == self._is_alone and raw == sealed:
            return
        if raw is not None and sealed is not None and raw != sealed and (raw, sealed) == self._stored():
            log.error("manifest.forged", service=self._mine.service, size_bytes=len(raw))
            self.join()
            note_refusal(self._connections.sync(), self._keys, self._mine.service, FORGED)
            return
        if readable(raw) is None:
            self.join(forgotten=True)
            log.error("manifest.was_lost", subscriptions=len(self._mine.subscriptions))
            return
        raw, around = self._look()
        stored = around.stored
        if stored is not None:
            with self._noting_refusals():
                refuse_a_stranger(stored, self.edition, around)
        if stored is None or is_due(stored, self.edition, around):
            log.info("manifest.registered", changed=self.join(), subscriptions=len(self._mine.subscriptions))
        elif [one.digest for one in stored.editions] == [self.edition.digest]:
            self._is_alone = raw

    def _stored(self) -> tuple[bytes | None, bytes | None]:
        """What there is under the service's name, and what the service itself wrote."""
        pipeline = self._connections.sync().pipeline(transaction=True)
        pipeline.hget(self._keys.manifests(), self._mine.service)
        pipeline.get(self._keys.sealed_manifest(self._mine.service))
        raw, sealed = pipeline.execute()
        return raw, sealed

    @contextmanager
    def _noting_refusals(self) -> Iterator[None]:
        try:
            yield
        except InvalidManifest as refused:
            note_refusal(self._connections.sync(), self._keys, self._mine.service, str(refused))
            raise

    def _look(self) -> tuple[bytes, Neighbours]:
        keys, service = self._keys, self._mine.service
        pipeline = self._connections.sync().pipeline(transaction=True)
        pipeline.time().hget(keys.manifests(), service).get(keys.sealed_manifest(service))
        pipeline.zrange(keys.editions(service), 0, -1, withscores=True)
        pipeline.zrange(keys.alive(service), 0, -1, withscores=True)
        (seconds, micros), raw, sealed, seen, alive = pipeline.execute()
        now = seconds * 1000 + micros // 1000
        others = [
            1 for name, at in alive if name.decode("utf-8", "replace") != self._name and now - at < FRESH_MS
        ]
        return raw or b"", Neighbours(
            stored=readable(raw if sealed is None else sealed),
            seen={digest.decode("utf-8", "replace"): int(at) for digest, at in seen},
            now_ms=now,
            living=len(others),
            newest_ms=ms(self._settings.unknown_task_timeout),
        )


def owner_digest(settings: MeshSettings, service: str) -> str:
    """Return what is stored of a service's key: who has the key can show it, and nobody learns it from there."""
    key = settings.service_key
    return hashlib.sha256(f"{service}:{key}".encode()).hexdigest() if key else ""
