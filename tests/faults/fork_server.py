"""A process that starts others in milliseconds: it has imported what they need, and forks.

It reads one JSON object per line and answers in the same way:

    {"start": module, "argv": [], "env": {}, "log": path}  ->  {"started": pid}
    {"signal": pid, "number": 9, "group": false}               only to a process it started and that has not ended
    {"guard": pid}, {"release": pid}                           somebody else's process, to be killed at the end
    by itself: {"ended": pid, "code": n}                       n as subprocess has it: below 0 for a signal

When its input ends, however that comes, it kills everything that descends from it and what it guards, so
nothing outlives a run that was interrupted. A started process is a real one, as `python -m module` would be.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

PRELOADED = (
    *("celery.apps.worker", "celery.concurrency.prefork", "celery.beat", "celery.bin.worker", "uvicorn"),
    *("celery.worker.consumer.consumer", "celery.backends.redis", "kombu.transport.redis", "httptools"),
    *("fastapi", "streammesh.transport.transport", "streammesh.worker.async_pool", "streammesh.worker.beat"),
    *("streammesh.service", "streammesh.worker.workflow", "streammesh.redisio.heartbeat", "streammesh.roles", "redis.asyncio"),
    *("streammesh.schedules.store", "streammesh.api_keys", "streammesh.tasks.due_set", "streammesh.event_trim"),
)  # fmt: skip
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER: what a killed parent leaves behind becomes ours


def say(line: dict[str, Any]) -> None:
    """One line to who runs us."""
    os.write(1, json.dumps(line).encode() + b"\n")


def started_at(pid: int) -> str | None:
    """When a process started, in clock ticks, which with its id makes it unmistakable. None when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def children() -> list[int]:
    """Our children and adopted orphans."""
    mine = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            mine.append(int(stat.parent.name))
    return mine


def become(module: str, argv: list[str], env: dict[str, str], log: str) -> None:
    """In a forked child: run a module as `python -m` does, in a session of its own, and end."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.closerange(3, 64)
    os.environ.update(env)
    sys.argv = [module, *argv]
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    vars(threading)[
        "_shutdown"
    ]()  # as the interpreter ends: wait for threads, then what was registered for the end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class ForkServer:
    """The loop."""

    def __init__(self) -> None:
        self._alive: set[int] = set()
        self._guarded: dict[int, str | None] = {}

    def obey(self, order: dict[str, Any]) -> None:
        """Carry out one line."""
        if "start" in order:
            pid = os.fork()
            if pid == 0:
                become(order["start"], order["argv"], order["env"], order["log"])
            self._alive.add(pid)
            say({"started": pid})
        elif "signal" in order:
            pid = order["signal"]
            if pid in self._alive:
                try:
                    (os.killpg if order["group"] else os.kill)(pid, order["number"])
                except ProcessLookupError:  # so young that it leads no group yet
                    os.kill(pid, order["number"])
        elif "guard" in order:
            self._guarded[order["guard"]] = started_at(order["guard"])
        elif "release" in order:
            self._guarded.pop(order["release"], None)

    def reap(self) -> None:
        """Tell of those that have ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._alive:
                self._alive.discard(pid)
                say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})

    def end(self) -> None:
        """Kill all that descends from us, and what is guarded."""
        for pid, start in self._guarded.items():
            if start is not None and started_at(pid) == start:
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (left := children()) and time.monotonic() < deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

    def run(self) -> None:
        """Until the input ends."""
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
        ears, mouth = os.pipe()
        os.set_blocking(ears, False)
        os.set_blocking(mouth, False)
        signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who runs us; then our input ends
        selector, rest = selectors.DefaultSelector(), b""
        selector.register(0, selectors.EVENT_READ)
        selector.register(ears, selectors.EVENT_READ)
        say({"ready": os.getpid()})
        try:
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if ears in ready:
                    os.read(ears, 4096)
                    self.reap()
                if 0 in ready:
                    chunk = os.read(0, 65536)
                    if not chunk:
                        return
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self.obey(json.loads(line))
        finally:
            self.end()


def main() -> None:
    """Import what everybody needs, then serve."""
    for module in PRELOADED:
        __import__(module)
    gc.collect()
    gc.freeze()  # children share these pages
    ForkServer().run()


if __name__ == "__main__":
    main()
