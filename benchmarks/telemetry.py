"""What metrics and traces cost a worker: the same drain without both, with metrics, and with one trace in a hundred."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.measuring import Results
from benchmarks.throughput import Drain
from benchmarks.workers import async_worker


class _Receiver(BaseHTTPRequestHandler):
    """Takes spans, as a collector would, and drops them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _receiver() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def telemetry(results: Results, size: int) -> None:
    """`drain.metrics` and `drain.traces`: rates over that of `drain.bare.async.1p`; there and back, so all share a slow while."""
    with _receiver() as url:
        ways: dict[str, Mapping[str, str]] = {
            "bare": {"MESH_METRICS": "false"},
            "metrics": {},
            "traces": {"MESH_TRACES_URL": url, "MESH_TRACES_SHARE": "0.01"},
        }
        own = Results()
        for name in (*ways, *reversed(ways)):
            drain = Drain(
                f"drain.{name}.async.1p", async_worker.service, "bench.noop", 1, settings=ways[name]
            )
            await drain(own, size)
    rates = {m.name.split(".")[1]: m.value for m in own.measurements if m.name.startswith("drain.")}
    for m in own.measurements:
        results.add(m.name, m.unit, m.value)
    results.add("drain.metrics", "x", rates["metrics"] / rates["bare"])
    results.add("drain.traces", "x", rates["traces"] / rates["bare"])
