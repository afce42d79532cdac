"""A sync handler in threads: `python -m benchmarks.workers.sync_worker`."""

from __future__ import annotations

from streammesh import Service

service = Service("bench_sync", pool="threads", prefetch=16)


@service.on("plain.noop")
def noop() -> None:
    """Do nothing."""


if __name__ == "__main__":
    service.run()
