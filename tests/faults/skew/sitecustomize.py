"""Lies about the time to the process that starts with this folder on its PYTHONPATH.

The file named by `FAULTS_CLOCK` holds a number of seconds (a C double) that is added to the wall clock; who runs
the test changes it while the process works. The monotonic clock is left alone, as a time server leaves it.
"""

from __future__ import annotations

import datetime as datetimes
import mmap
import os
import struct
import time
from typing import Any

_real_time, _real_time_ns, _real_datetime = time.time, time.time_ns, datetimes.datetime
with open(os.environ["FAULTS_CLOCK"], "rb") as _file:  # noqa: PTH123
    _shared = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)


def _offset() -> float:
    return float(struct.unpack("d", _shared[:8])[0])


class _Kind(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _real_datetime)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, _real_datetime)


class _Datetime(datetimes.datetime, metaclass=_Kind):
    def __new__(cls, *args: Any, **options: Any) -> Any:
        return _real_datetime(*args, **options)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _real_datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return _real_datetime.fromtimestamp(time.time(), datetimes.UTC).replace(tzinfo=None)


time.time = lambda: _real_time() + _offset()
time.time_ns = lambda: _real_time_ns() + int(_offset() * 1e9)
datetimes.datetime = _Datetime  # type: ignore[misc]
