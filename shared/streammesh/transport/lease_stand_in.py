"""Renews the leases of a worker that cannot do so itself at the moment; see `lease_watch.py`.

What if SIGKILL here? The leases run out as if nobody had stood in. What if the worker dies meanwhile? This ends at
the next look, and the leases run out then.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import redis
from redis.exceptions import RedisError

from streammesh import lua
from streammesh.keys import WORKERS, Keys
from streammesh.redisio.pools import open_pool
from streammesh.transport import lease_watch
from streammesh.transport.scripts import QueueCalls

PAGE = 1000  # entries in one answer


class StandIn:
    """Renews all that one consumer holds."""

    def __init__(self, about: bytes) -> None:
        facts = json.loads(about)
        pool = open_pool(facts["url"], facts["namespace"], facts["options"])
        self._redis = redis.Redis(connection_pool=pool)
        self._streams: list[str] = facts["streams"]
        self._calls = QueueCalls(Keys(facts["namespace"]), facts["consumer"], 0, 0, 0)

    def renew(self) -> None:
        """Renew, once. Raises RedisError."""
        held = {stream: list(self._held(stream)) for stream in self._streams}
        held = {stream: entries for stream, entries in held.items() if entries}
        if held:
            lua.run_sync(self._redis, self._calls.renew(held))

    def _held(self, stream: str) -> Iterator[str]:
        first = "-"
        while True:
            rows = self._redis.xpending_range(stream, WORKERS, first, "+", PAGE, self._calls.consumer)
            for row in rows:
                yield row["message_id"].decode()
            if len(rows) < PAGE:
                return
            first = f"({rows[-1]['message_id'].decode()}"


def main() -> None:
    """Renew while the worker is silent, then become the one that watches again."""
    watch = lease_watch.Watch(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    stand_in = StandIn(watch.signs.about())
    while watch.is_silent():
        try:
            stand_in.renew()
        except (RedisError, OSError):
            pass  # the worker's keeper says so when it can
        if not watch.wait():
            return
    os.execv(sys.executable, [sys.executable, "-P", lease_watch.__file__, *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
