"""A sync handler in worker processes: `python -m benchmarks.workers.prefork_worker`."""

from __future__ import annotations

from streammesh import Service

service = Service("bench_prefork", pool="prefork", prefetch=16)


@service.on("forked.noop")
def noop() -> None:
    """Do nothing."""


if __name__ == "__main__":
    service.run()
