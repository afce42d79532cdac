"""The place of a process in a group of processes of one service; see `process_group.py`.

It is told in an environment variable that only the group's parent sets, and that is gone once it was read: what the
process itself starts is not of the group.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from functools import cache

VARIABLE = "STREAMMESH_GROUP_PLACE"
_TOLD = re.compile(r"(\d{1,4})/(\d{1,4}):(\d{1,6})")


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """Which process of how many this is, from 1, and the socket to its parent."""

    number: int
    of: int
    fd: int


@cache
def group_place() -> GroupPlace | None:
    """Return this process's place; None where it is on its own."""
    told = _TOLD.fullmatch(os.environ.pop(VARIABLE, ""))
    if told is None:
        return None
    place = GroupPlace(*map(int, told.groups()))
    try:
        if not stat.S_ISSOCK(os.fstat(place.fd).st_mode):
            return None
        os.set_inheritable(place.fd, False)
    except OSError:  # the variable was handed on without its socket
        return None
    return place


def environment_of(place: GroupPlace) -> dict[str, str]:
    """Return the environment for the process at a place, which must inherit the socket."""
    return {**os.environ, VARIABLE: f"{place.number}/{place.of}:{place.fd}"}
