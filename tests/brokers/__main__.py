"""`python -m tests.brokers`: the tests that run real workers, on RabbitMQ and on Celery's own lists in Redis.

Words after `--` go to pytest in place of the list below.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from tests.harness.brokers import CHOICE, KINDS, why_not
from tests.harness.processes import ROOT

FOLDER = "tests/integration"
MODULES = (
    "brokers", "test_alerts.py", "test_api_end_to_end.py", "test_breaker.py", "test_cancel.py",
    "test_cancel_threads.py", "test_cli.py", "test_cli_dead.py", "test_dead_letters.py", "test_delivery.py",
    "test_drain.py", "test_email_worker.py", "test_events_page.py", "test_lost_data.py", "test_new_team.py",
    "test_unknown_tasks.py", "test_vanished.py", "test_workers_page.py", "test_workflows.py",
)  # fmt: skip
FAULTS = "tests/faults/test_on_brokers.py"
LEFT_OUT = {
    "transport": "looks into the stream transport itself",
    "test_transport_workers.py": "the same, with plain Celery workers",
    "test_parking.py": "calls what the stream transport's consumer calls",
    "test_sentinel.py": "fails the mesh's Redis over, which is there all the same",
    "test_tls.py": "the mesh's Redis; the brokers' TLS is in brokers/test_tls.py",
    "schedules": "ticks are events; no worker runs",
}  # the others in that folder start no worker


def main() -> None:
    """The command; its exit code is 0 when every run passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.brokers", description=__doc__)
    parser.add_argument("--broker", choices=KINDS, help="this one only")
    parser.add_argument("words", nargs="*", help="for pytest, after --")
    chosen = parser.parse_args()
    failed = 0
    for kind in (chosen.broker,) if chosen.broker else KINDS:
        if reason := why_not(kind):
            print(f"--- {kind}: skipped, {reason}", flush=True)
            continue
        print(f"--- {kind}", flush=True)
        failed |= run(kind, chosen.words or [*(f"{FOLDER}/{name}" for name in MODULES), FAULTS])
    for name, reason in LEFT_OUT.items():
        print(f"left out: {FOLDER}/{name}: {reason}")
    sys.exit(failed)


def run(kind: str, words: Sequence[str]) -> int:
    """Run them on one kind of broker; answers pytest's exit code."""
    command = [sys.executable, "-m", "pytest", *words]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, CHOICE: kind}, check=False).returncode


if __name__ == "__main__":
    main()
