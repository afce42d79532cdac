"""Script calls on one blocking connection, without a client's machinery around each.

redis-py makes the connection (address, TLS, sentinel, AUTH); this takes over its socket. A call through
redis-py's client costs several times what the call itself does, and a worker process makes one or two for
every task.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import hiredis
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streammesh.redisio import internals

READ_BYTES = 1 << 16
_NOTHING = object()  # what the parser answers when it has no whole reply


class Blocking:
    """Sends commands on one connection of `client`; for one process, from any of its threads, one at a time.

    A command whose connection breaks or stays silent for the client's `socket_timeout` is sent again as often
    as the client's retries say: only what may be repeated belongs here. Then redis-py's ConnectionError or
    TimeoutError is raised, and the next command connects anew.
    """

    def __init__(self, client: redis.Redis) -> None:
        internals.check()
        self._pool, self._retry = client.connection_pool, client.get_retry()
        self._connection: Any = None
        self._socket: Any = None
        self._parser: Any = None
        self._turn = threading.Lock()

    def execute_command(self, *command: Any) -> Any:
        """The answer to one command. Raises the error that it is, or what a lost connection raises."""
        [answer] = self.execute_all([command])
        if isinstance(answer, RedisError):
            if self._connection is not None and (instead := self._connection.follow(answer)):
                self.close()
                raise instead from answer
            raise answer
        return answer

    def execute_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The answers to several commands, sent together: one round trip. An error stands in its place."""
        packed = b"".join([hiredis.pack_command(command) for command in commands])
        with self._turn:
            answers: list[Any] = self._retry.call_with_retry(
                lambda: self._ask(packed, len(commands)), self._drop
            )
        return answers

    def _ask(self, packed: bytes, count: int) -> list[Any]:
        if self._socket is None:
            self._connect()
        try:
            self._socket.sendall(packed)
            return self._read(count)
        except TimeoutError:
            self.close()
            raise RedisTimeoutError("no answer in time") from None
        except (OSError, hiredis.ProtocolError) as broken:
            self.close()
            raise RedisConnectionError(f"the connection broke: {broken}") from broken
        except BaseException:  # a time limit's signal, say: the answer that is on its way is nobody's
            self.close()
            raise

    def _connect(self) -> None:
        self._connection = self._pool.get_connection()
        self._socket = internals.socket_of(self._connection)
        self._parser = hiredis.Reader(notEnoughData=_NOTHING, replyError=internals.parse_error)

    def _read(self, count: int) -> list[Any]:
        answers: list[Any] = []
        while True:
            while (reply := self._parser.gets()) is not _NOTHING:
                if not isinstance(reply, hiredis.PushNotification):
                    answers.append(reply)
                    if len(answers) == count:
                        return answers
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise RedisConnectionError("the connection was closed by the server")
            self._parser.feed(data)

    def _drop(self, _: Exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next command makes a new one."""
        connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.disconnect()
            self._pool.release(connection)
