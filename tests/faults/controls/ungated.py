"""`python -m tests.faults.controls.ungated`: the dispatcher, with every gate of the hand-off taken out of its script."""

from __future__ import annotations

import hashlib

from streammesh import lua
from streammesh.lua import signature
from streammesh.lua.tasks import HandoffScript

from services.dispatcher.__main__ import main

GATES = {
    b"local mine = redis.call('XACK', stream, group, one.position) == 1": b"redis.call('XACK', stream, group, one.position) local mine = true",
    b"if wanted and not is_known and not made[task] and not (any and redis.call('EXISTS', task) == 1) then": b"if wanted then",
}


def without_gates(script: lua.Script) -> lua.Script:
    """The same script, which hands over whatever it is given. Raises ValueError when it is not the script it knew."""
    text = script.text
    for gate, hole in GATES.items():
        if text.count(gate) != 1:
            raise ValueError(f"handoff.lua has changed: {gate!r} is not in it once")
        text = text.replace(gate, hole)
    return lua.Script(script.name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


if __name__ == "__main__":
    broken, whole = without_gates(HandoffScript.script()), signature.script
    signature.script = lambda name: broken if name == "handoff" else whole(name)  # type: ignore[assignment]
    main()
