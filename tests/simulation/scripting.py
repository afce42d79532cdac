"""Lua in the simulated server: one runtime for all schedules of a process, and each script compiled once.

fakeredis makes a runtime for each server, compiles a script at each call, and collects all of Lua's garbage after it.
"""

from __future__ import annotations

from typing import Any

from fakeredis import FakeServer, _msgs
from fakeredis._helpers import SimpleError
from fakeredis.aioredis import AsyncFakeSocket

SHARED = ("_lua_set_keys_argv", "_lua_expected_globals", "_lua_current_socket")
COLLECT_EVERY = 2_000  # calls
_msgs.XGROUP_BUSYGROUP = "BUSYGROUP Consumer Group name already exists"  # with `ERR` before it, in no server


class CompiledScripts:
    """A `LuaRuntime` that compiles a text once."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._compiled: dict[bytes, Any] = {}
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def execute(self, text: Any) -> Any:
        """Run a script, or what fakeredis calls after each: Lua's collector, which runs now and then."""
        if isinstance(text, str):
            self._calls += 1
            return None if self._calls % COLLECT_EVERY else self._runtime.execute(text)
        chunk = self._compiled.get(text)
        if chunk is None:
            chunk = self._compiled[text] = self._runtime.compile(text)
        return chunk()


class ScriptingSocket(AsyncFakeSocket):
    """fakeredis's end of a connection, which runs scripts in the runtime of the process.

    Beside it what is put right here, where a server answers otherwise; `playback.py` would show it.
    """

    _template: FakeServer | None = None
    waits = False  # for new entries

    def _get_server_runtime(self, server: Any) -> Any:
        if not hasattr(server, "_lua_runtime"):
            template: Any = ScriptingSocket._template
            if template is None:
                template = ScriptingSocket._template = FakeServer(version=(7, 4))
                template._lua_runtime = CompiledScripts(super()._get_server_runtime(template))
            server._lua_runtime = template._lua_runtime
            for name in SHARED:
                setattr(server, name, getattr(template, name))
        return server._lua_runtime

    def _lua_redis_call(self, lua_runtime: Any, expected_globals: set[Any], op: bytes, *args: Any) -> Any:
        """Answer a script. Whether it sets globals is looked at after it, not at each of its calls."""
        return super()._lua_redis_call(WithoutGlobals(lua_runtime), expected_globals, op, *args)

    def _lua_redis_pcall(self, lua_runtime: Any, expected_globals: set[Any], op: bytes, *args: Any) -> Any:
        """Answer a script; its errors are text there, where fakeredis has an object of Python."""
        try:
            return self._lua_redis_call(lua_runtime, expected_globals, op, *args)
        except Exception as error:
            return lua_runtime.table_from({b"err": str(error).encode()})

    def _run_command(self, func: Any, sig: Any, args: list[Any], from_script: bool) -> Any:
        """Answer a command. Of a stream that is not there a server says that the group is not."""
        answer = super()._run_command(func, sig, args, from_script)
        if (
            sig.name == "xreadgroup"
            and isinstance(answer, SimpleError)
            and "requires the key" in answer.value
        ):
            return SimpleError("NOGROUP No such key or consumer group in XREADGROUP with GROUP option")
        return answer

    def _xreadgroup(self, consumer: Any, groups: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Read. Who waits is heard of once, when the wait begins, and not each time something else is added."""
        before = [(group, group.consumers.get(consumer)) for group, *_ in groups]
        times = [known and known.last_attempt for _, known in before]
        found = super()._xreadgroup(consumer, groups, *args, **options)
        if self.waits and not found:
            for (group, known), at in zip(before, times, strict=True):
                if known is None:
                    group.consumers.pop(consumer, None)
                else:
                    known.last_attempt = at
        return found

    def xinfo_consumers(self, *args: Any) -> Any:
        """Answer in the order of names, as a server does."""
        return sorted(super().xinfo_consumers(*args), key=lambda consumer: consumer["name"])

    def xinfo_groups(self, *args: Any) -> Any:
        """Answer in the order of names, as a server does."""
        return sorted(super().xinfo_groups(*args), key=lambda group: group[b"name"])

    def _xreadgroup_reply(self, res: dict[bytes, Any] | None) -> Any:
        """Answer a script as a server does, which speaks RESP2 to scripts whatever the client speaks."""
        if self._script_resp == 2:
            return [[key, entries] for key, entries in res.items()] if res else None
        return super()._xreadgroup_reply(res) if res else None


class WithoutGlobals:
    """What fakeredis needs of a runtime to make tables, and no globals to look through."""

    def __init__(self, runtime: Any) -> None:
        self.table_from = runtime.table_from

    def globals(self) -> dict[Any, Any]:
        """Return none."""
        return {}
