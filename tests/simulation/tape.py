"""What a simulated server was asked and what it answered, so that a real one can be asked the same (`playback.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

Command = list[bytes]
RESTART: Command = [b"(restart)"]
CLOSE: Command = [b"(close)"]
# How what lies under a key is read, by its type.
CONTENTS: dict[bytes, tuple[tuple[bytes, ...], ...]] = {
    b"string": ((b"GET",),),
    b"hash": ((b"HGETALL",),),
    b"set": ((b"SMEMBERS",),),
    b"zset": ((b"ZRANGE", b"0", b"-1", b"WITHSCORES"),),
    b"stream": ((b"XRANGE", b"-", b"+"), (b"XINFO", b"GROUPS")),
}


@dataclass
class Step:
    """One command of one connection, when it took effect, and its answer; None where it has none of its own."""

    connection: int
    at: float
    command: Command
    answer: bytes | None = None


@dataclass
class Tape:
    """The steps of one schedule, in the order in which they took effect."""

    steps: list[Step] = field(default_factory=list)

    def note(self, connection: int, command: Command, answer: bytes | None = None) -> Step:
        """Add a step that takes effect now."""
        step = Step(connection, time.time(), command, answer)
        self.steps.append(step)
        return step

    def contents(self, ask: Callable[[Command], bytes], keys: list[bytes], types: dict[bytes, bytes]) -> None:
        """Read all that is there, so that it is compared too."""
        for key in sorted(keys):
            for verb, *rest in CONTENTS.get(types[key], ()):
                words = [verb, *rest[:1], key] if verb == b"XINFO" else [verb, key, *rest]
                self.note(0, words, ask(words))
            self.note(0, [b"PTTL", key], ask([b"PTTL", key]))


def without_waiting(command: Command) -> Command:
    """Return a command that reads without waiting."""
    words = [word.upper() for word in command]
    if words[0] in {b"XREAD", b"XREADGROUP"} and b"BLOCK" in words:
        at = words.index(b"BLOCK")
        return [*command[:at], *command[at + 2 :]]
    return command
