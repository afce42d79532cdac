"""The other shards of a mesh, asked by a run that is about to find that its event did not come in time.

What was published there in time is told to the run's shard once it is handed over (`lua/arrive.lua`). So a run decides only when
nothing such is on its way: neither in the other shard, nor in its outbox for this one. Asked is by age, since clocks differ.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import redis
import structlog
from redis.exceptions import RedisError

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lua.durable import LookBeyondScript
from streammesh.redisio.client import open_sync
from streammesh.settings import MeshSettings
from streammesh.shards import other_shards

log = structlog.get_logger(__name__)
LONGEST_MS = 3_600_000  # beyond this nothing is waited for any more, as within a shard
GRACE = 0.25  # seconds for which an event that was published in time is waited for beyond its time
AWAY = 5.0  # seconds until a shard that could not be asked is asked again: very many runs may wait for it
LOOKS, LOOK_EVERY = 10, 0.02  # seconds between two looks at an outbox that is being emptied


class OtherShards:
    """Connects at its first use; safe in several threads."""

    def __init__(self, settings: MeshSettings) -> None:
        self._whole, self._own, self._others = settings.whole, settings.shard or 0, other_shards(settings)
        self._clients: dict[int, redis.Redis] = {}
        self._lock = threading.Lock()

    @property
    def are_there(self) -> bool:
        """Whether the mesh has other shards."""
        return bool(self._others)

    def look_again_in(self, task_id: str, wait: str, service: str, domain: str) -> float:
        """Return the seconds until a run that counts what is in time has to ask again: an event of the domain may still come.

        0 where none may. From a shard that cannot be asked one may, for an hour.
        """
        try:
            age_ms = self._age_ms(task_id, wait)
            is_open = age_ms is not None and any(
                self._sends(number, service, domain, age_ms) for number in self._others
            )
        except RedisError as error:
            log.warning("expectation.waits", reason=str(error)[:300])
            return AWAY
        return GRACE if is_open else 0.0

    def _age_ms(self, task_id: str, wait: str) -> int | None:
        """How long ago the last moment in time was; None where the run does not know one, or it was long ago."""
        client, keys = self._at(self._own)
        pipeline = client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hget(keys.task(task_id), f"last:{wait}")
        (seconds, micros), last = pipeline.execute()
        if last is None or not last.isdigit():
            return None
        age = seconds * 1000 + micros // 1000 - int(last) // 1000
        return max(0, age) if age <= LONGEST_MS else None

    def _sends(self, number: int, service: str, domain: str, age_ms: int) -> bool:
        client, keys = self._at(number)
        began, since = time.monotonic(), ""
        for _ in range(LOOKS):
            age = age_ms + round((time.monotonic() - began) * 1000)
            answer = lua.run_sync(client, self._call(keys, service, domain, age))
            if answer[0] == "open":
                return True
            since = since or answer[0]  # what is laid into the outbox from then on came too late
            if not answer[1] or int(answer[1]) > int(since):
                return False
            time.sleep(LOOK_EVERY)
        return True

    def _call(self, keys: Keys, service: str, domain: str, age_ms: int) -> lua.Call[list[str]]:
        return LookBeyondScript(
            stream=keys.events(domain),
            waking=keys.waking(service),
            outbox=keys.outbox(self._own),
            routed=keys.routed(domain),
            service=service,
            age=age_ms,
        ).call(_texts)

    def _at(self, number: int) -> tuple[redis.Redis, Keys]:
        settings = self._whole.of_shard(number)
        with self._lock:
            if number not in self._clients:
                self._clients[number] = open_sync(settings, "expectations")
        return self._clients[number], Keys(settings.namespace)


def _texts(raw: list[Any]) -> list[str]:
    return [one.decode() for one in raw]
