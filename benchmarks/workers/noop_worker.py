"""One async handler, which may be served in any number of shards: `python -m benchmarks.workers.noop_worker`."""

from __future__ import annotations

from streammesh import Service

service = Service("bench_noop")


@service.on("bench.noop")
async def noop() -> None:
    """Do nothing."""


if __name__ == "__main__":
    service.run()
