"""Tasks that a run of their key took with it (`debounce`): the caller of `read_folds.lua`."""

from __future__ import annotations

from typing import Any, NamedTuple

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lua.flow import ReadFoldsScript

PAGE = 100  # tasks that one call answers


class Fold(NamedTuple):
    """One of them: its member in the line, its task, and the run's."""

    member: bytes
    task: str
    run: str


def folds_call(keys: Keys, task: str) -> lua.Call[tuple[bool, list[Fold]]]:
    """`read_folds.lua` for the subscription of a task; answers whether there may be more."""
    return ReadFoldsScript(
        line=keys.flow_line(task),
        runs=keys.flow_runs(task),
        folding=keys.folding(),
        name=task,
        most=PAGE,
    ).call(_folds)


def _folds(answer: list[Any]) -> tuple[bool, list[Fold]]:
    more, *rest = answer
    return bool(more), [
        Fold(member, _text(member.rpartition(b" ")[2]), _text(run))
        for member, run in zip(rest[::2], rest[1::2], strict=True)
    ]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
