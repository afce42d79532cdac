"""A Redis in the simulated network: RESP over simulated TCP in front of one `fakeredis` server.

Each command that arrives is a place where a fault may strike; a pipeline is several of them. What is answered
is what fakeredis answers, as bytes, so clients of every kind (redis-py's, the kit's own pipelines) speak to it.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from hashlib import sha1
from typing import Any, cast

import detangle
import hiredis
import redis.asyncio
from fakeredis import FakeServer
from fakeredis._helpers import SimpleError, SimpleString

from tests.simulation.scripting import ScriptingSocket
from tests.simulation.tape import CLOSE, RESTART, Step, Tape, without_waiting

HOST, PORT = "redis", 6379
Command = list[bytes]
Strike = Callable[
    [str, Command, Callable[[], Awaitable[bytes]], bool, "SimulatedServer"], Awaitable[bytes | None]
]


def _array(value: Any) -> bytes:
    return b"*%d\r\n" % len(value) + b"".join([encoded(part) for part in value])


def _map(value: Mapping[Any, Any]) -> bytes:
    parts = [encoded(part) for pair in value.items() for part in pair]
    return b"%%%d\r\n" % len(value) + b"".join(parts)


def _text(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"_\r\n",
    bool: lambda value: b"#t\r\n" if value else b"#f\r\n",
    int: lambda value: b":%d\r\n" % value,
    float: lambda value: b",%a\r\n" % value,
    bytes: _text,
    str: lambda value: _text(value.encode()),
    list: _array,
    tuple: _array,
    set: _array,
    dict: _map,
    SimpleError: lambda value: b"-" + value.value.partition("\n")[0].encode() + b"\r\n",
    SimpleString: lambda value: b"+" + value.value + b"\r\n",
}


def encoded(value: Any) -> bytes:
    """Return a reply as RESP3 bytes."""
    encode = ENCODERS.get(type(value))
    if encode is not None:
        return encode(value)
    if isinstance(value, Mapping):
        return _map(value)
    if isinstance(value, Sequence | Set):
        return _array(value)
    for kind in (int, float, bytes, SimpleError):
        if isinstance(value, kind):
            return ENCODERS[kind](value)
    raise TypeError(f"no RESP for {type(value).__name__}")


class _Socket(ScriptingSocket):
    """fakeredis's end of one connection, with replies left as fakeredis makes them."""

    tells = False  # a subscriber: what it is answered and told goes out as it comes
    tape: Tape | None = None
    step: Step | None = None  # what is under way, where it is recorded
    number = 0
    life = 0  # of the server, which it was opened in
    reads: Sequence[bytes] = ()
    verb = b""  # of the command under way
    waiting: dict[asyncio.Task[Any], None]  # reads that wait, of all connections to this server

    async def _async_blocking(self, *args: Any) -> None:
        """Wait; a server that is killed meanwhile gives nothing any more."""
        task = asyncio.current_task()
        assert task is not None
        self.waiting[task] = None
        try:
            await super()._async_blocking(*args)
        finally:
            del self.waiting[task]

    def _group_is_gone(self) -> bool:
        words = [word.upper() for word in self.reads]
        names = self.reads[words.index(b"STREAMS") + 1 :]
        for key in names[: len(names) // 2]:
            item = self._db.get(key)
            if item is None or item.value.group_get(self.reads[2]) is None:
                return True
        return False

    def put_response(self, msg: Any) -> None:
        """Answer; on the tape, what waited took effect now."""
        waited = self.waits  # in vain where there is no answer: then nothing took effect
        if waited and not msg and self.reads and self._group_is_gone():
            msg = SimpleError("NOGROUP the group is gone for which this client waited")
        if not msg and self.verb == b"XREAD":
            msg = None  # fakeredis says that there is nothing with an empty table
        self.waits = False
        if self.tape is not None and self.step is not None and (msg or not waited):
            if self.tape.steps[-1] is not self.step:
                self.step = self.tape.note(self.number, self.step.command)
            self.step.answer = encoded(msg)
            self.step = None
        super().put_response(msg)

    def _decode_result(self, result: Any) -> Any:
        return result


class _InOrder(dict[Any, None]):
    """What fakeredis wakes when a key changes, in the order in which it came; a set has an order of addresses."""

    add = dict.setdefault

    def remove(self, one: Any) -> None:
        """Forget one."""
        del self[one]


class SimulatedServer:
    """One server; its data live in `state` and survive `restart`, all or up to the last `fsync`."""

    def __init__(self, strike: Strike, host: str = HOST) -> None:
        self.host = host
        self.state = FakeServer(version=(7, 4))
        self.state.dbs[0]._change_callbacks = cast("Any", _InOrder())
        self.restarts = 0
        self._strike = strike
        self.tape: Tape | None = None  # where what is asked and answered is recorded
        self._accepted = 0
        self._plain: dict[bytes, bytes] = {}  # SHA-1 with flags -> without
        self._synced = pickle.dumps({})  # the data as they were on disk
        self.synced_at = 0.0
        self._listener: asyncio.Server | None = None
        # Both in order: a set has none that repeats.
        self._connections: dict[asyncio.StreamWriter, None] = {}
        self._waiting: dict[asyncio.Task[Any], None] = {}

    async def start(self) -> None:
        """Listen on port 6379 of its host in the simulated network."""
        self._listener = await asyncio.start_server(self._serve, self.host, PORT)

    async def stop(self) -> None:
        """Close every connection and listen no more, as a killed server does: nothing that it has read is done any more."""
        self.restarts += 1
        if self._listener:
            self._listener.close()
            self._listener.abort_clients()  # type: ignore[attr-defined]
        self._connections.clear()
        for read in self._waiting:
            read.cancel()

    def fsync(self) -> None:
        """Remember the data as they are: what a restart `with_loss` comes back with."""
        self._synced = pickle.dumps(self.state.dbs[0]._dict)
        self.synced_at = time.time()

    async def restart(self, down: float, *, with_loss: bool = False) -> None:
        """Be away for `down` seconds; with loss, what was written since the last fsync is gone."""
        await self.kill(with_loss=with_loss)
        await asyncio.sleep(down)
        await self.start()

    async def kill(self, *, with_loss: bool = False) -> None:
        """Go away until `start`, and know no script any more."""
        await self.stop()
        if self.tape is not None:
            self.tape.note(0, RESTART)
        self.state.script_cache.clear()
        if with_loss:
            self.state.dbs[0]._dict = pickle.loads(self._synced)

    async def _tell(self, socket: _Socket, writer: asyncio.StreamWriter) -> None:
        """Send a subscriber what is published, from its first SUBSCRIBE on."""
        while True:
            writer.write(encoded(await socket.responses.get()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[writer] = None
        peer = writer.get_extra_info("peername")[0]
        parser = hiredis.Reader()
        socket = _Socket(self.state, 0, client_class=redis.asyncio.Redis)
        self._accepted += 1
        socket.tape, socket.number, socket.life = self.tape, self._accepted, self.restarts
        socket.waiting = self._waiting
        telling: asyncio.Task[None] | None = None
        try:
            while data := await reader.read(1 << 16):
                parser.feed(data)
                while (command := parser.gets()) is not False:

                    async def act(command: Command = command) -> bytes:
                        return await self._execute(socket, command)

                    queued = socket._transaction is not None  # between MULTI and EXEC
                    answer = await self._strike(peer, command, act, queued, self)
                    if answer is None:  # the connection breaks before its answer
                        writer.transport.abort()
                        return
                    writer.write(answer)
                    if command[0].upper() == b"SUBSCRIBE" and telling is None:
                        telling = asyncio.get_running_loop().create_task(self._tell(socket, writer))
                        socket.tells = True
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if telling is not None:
                telling.cancel()
            self._connections.pop(writer, None)
            if self.tape is not None:
                self.tape.note(socket.number, CLOSE)
            socket.close()
            writer.close()

    async def _execute(self, socket: _Socket, command: Command) -> bytes:
        if socket.life != self.restarts:
            raise ConnectionResetError("the server that had read this was killed")
        detangle.note(f"{command[0].decode()} {command[1][:40] if len(command) > 1 else ''!r}")
        if self.tape is not None:
            socket.step = self.tape.note(socket.number, without_waiting(command))
            if command[0].upper() == b"SUBSCRIBE" or socket.tells:
                socket.step = None
        socket.waits, socket.verb = False, command[0].upper()
        socket._process_command(self._without_flags(command))
        socket.waits = socket.responses.empty()
        socket.reads = command if command[0].upper() == b"XREADGROUP" else ()
        if socket.tells:
            return b""  # its answer goes the way of what is published
        return encoded(await socket.responses.get())

    def lacks(self, command: Command) -> bool:
        """Return whether a command names a script that was not sent since the start."""
        if command[0].upper() != b"EVALSHA":
            return False
        return self._plain.get(command[1], command[1]) not in self.state.script_cache

    def record_contents(self) -> None:
        """Record all that lies in the server."""
        assert self.tape is not None
        socket = _Socket(self.state, 0, client_class=redis.asyncio.Redis)

        def ask(command: Command) -> bytes:
            socket._process_command(command)
            return encoded(socket.responses.get_nowait())

        keys = [key for key in list(self.state.dbs[0]) if key in self.state.dbs[0]]
        types = {}
        for key in keys:
            types[key] = ask([b"TYPE", key])[1:-2]
        self.tape.contents(ask, keys, types)

    def _without_flags(self, command: Command) -> Command:
        """Return the command with its script's first line, `#!lua flags=…`, taken out: fakeredis knows none."""
        verb = command[0].upper()
        if verb == b"EVAL" and command[1].startswith(b"#!"):
            text = command[1].partition(b"\n")[2]
            self._plain[sha1(command[1]).hexdigest().encode()] = sha1(text).hexdigest().encode()
            return [command[0], text, *command[2:]]
        if verb == b"EVALSHA":
            return [command[0], self._plain.get(command[1], command[1]), *command[2:]]
        return command
