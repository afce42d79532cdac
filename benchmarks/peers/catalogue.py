"""Which peers there are, what each is measured at, and how much of it: about three seconds' work each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One peer: the program that speaks for it, and the size of a full run of each measure it takes part in.

    Tasks with an async handler count as `drain.noop.async`, those of peers that run plain functions in threads as
    `drain.noop.sync`, in processes as `drain.noop.prefork`.
    """

    name: str
    environment: str
    sizes: Mapping[str, int]

    @property
    def program(self) -> str:
        """Its file in `programs/`."""
        return f"with_{self.environment}.py"


def _async(rate: int, latency: int = 300) -> dict[str, int]:
    return {
        "drain.noop.async.1p": 3 * rate,
        "drain.noop.async.2p": 5 * rate,
        "drain.io10ms.1p": 3 * rate,
        "latency.low": latency,
    }


def _sync(pool: str, rate: int, waiting: int) -> dict[str, int]:
    return {
        f"drain.noop.{pool}.1p": 3 * rate // 2,
        f"drain.noop.{pool}.2p": 3 * rate,
        "drain.io10ms.1p": 3 * waiting,
        "latency.low": 300,
    }


PEERS = {
    peer.name: peer
    for peer in (
        Peer("celery", "celery", {**_sync("prefork", 800, 450), "handoff.1p": 4_000}),
        Peer("faststream", "faststream", _async(3_000)),
        Peer("taskiq", "taskiq", _async(1_400)),
        Peer("saq", "saq", _async(1_600)),
        Peer("arq", "arq", _async(1_000)),
        Peer("docket", "docket", _async(1_200)),
        Peer("dramatiq", "dramatiq", _sync("sync", 2_700, 1_500)),
        Peer("huey", "huey", _sync("sync", 3_500, 1_000)),
        Peer("rq", "rq", _sync("prefork", 370, 70)),
        Peer("fastapi+xadd", "fastapi", {"publish": 8_000}),
        Peer("fastapi+sse-starlette", "sse", {"push.filters": 5_000, "push.broadcast": 5_000}),
    )
}
