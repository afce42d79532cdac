"""`python -m tests.celery_suite`: Celery's integration tests with the mesh's transport as the broker.

They run against a private server, once with a prefork worker and once with threads. Words after `--` go to
pytest: `python -m tests.celery_suite --pool prefork -- t/integration/test_tasks.py -k retry`. With `--transport
stock` they run over Celery's own Redis transport, to tell what is ours from what is not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from streammesh.embedded import EmbeddedServer
from streammesh.transport.transport import broker_url

from tests.celery_suite import source
from tests.celery_suite.pool_plugin import POOL

POOLS = ("prefork", "threads")
# Only what the tests want: a plugin of ours that happens to be installed would judge tests that know nothing of it.
PLUGINS = (
    "celery.contrib.pytest", "pytest_order", "pytest_rerunfailures", "pytest_timeout",
    "tests.celery_suite.pool_plugin",
)  # fmt: skip
TEST_SECONDS = 300


def run(pool: str, transport: str, words: Sequence[str]) -> int:
    """Run them with one kind of pool; answers pytest's exit code."""
    here = Path(__file__).parent
    with (
        TemporaryDirectory(prefix="celery-suite-") as name,
        EmbeddedServer(Path(name), appendonly=False) as server,
    ):
        paths = [here / "at_start", source.plugins(), source.ROOT, source.ROOT / "shared"]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(server.port),
            "TEST_BACKEND": server.url,
            "TEST_BROKER": broker_url(server.url) if transport == "mesh" else server.url,
            POOL: pool,
        }
        command = [sys.executable, "-m", "pytest", "-q", f"--timeout={TEST_SECONDS}", "--durations=10"]
        command += ["--junitxml", str(source.FOLDER / f"{transport}-{pool}.xml")]
        for plugin in PLUGINS:
            command += ["-p", plugin]
        for node, (of, _) in source.left_out().items():
            if of in ("", pool):
                command += ["--deselect" if "::" in node else "--ignore", node]
        command += words or ["t/integration"]
        return subprocess.run(command, cwd=source.tests(), env=env, check=False).returncode


def main() -> None:
    """The command; its exit code is 0 when every run passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.celery_suite", description=__doc__)
    parser.add_argument("--pool", choices=(*POOLS, "all"), default="all")
    parser.add_argument("--transport", choices=("mesh", "stock"), default="mesh")
    parser.add_argument("words", nargs="*", help="for pytest, after --")
    chosen = parser.parse_args()
    failed = 0
    for pool in POOLS if chosen.pool == "all" else (chosen.pool,):
        print(f"--- {pool} worker, {chosen.transport} transport", flush=True)
        failed |= run(pool, chosen.transport, chosen.words)
    for node, (pool, reason) in source.left_out().items():
        print(f"left out{' with ' + pool if pool else ''}: {node}: {reason}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
