"""The mesh's kombu transport: Celery's queues as Redis Streams with leases.

    broker_url = "mesh+redis://127.0.0.1:6379/0"       also mesh+rediss://, mesh+unix://, mesh+redis+sentinel://

What it promises, beside what kombu's own Redis transport does:

- An entry leaves its queue only when it is acknowledged. Whoever holds it renews its lease from a thread
  that no handler can stop; when the owner dies, another consumer takes it over as the lease runs out.
- What a stopping worker holds and has not begun goes back at once, to its old place in the queue.
- An entry that Celery would not survive, or that is delivered again and again, becomes a dead letter.
- Reads and acknowledgements travel in batches; `XLEN` is the true length of a queue.

`request.properties["delivery_tag"]` names a task's queue entry; see `parse_tag`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kombu.transport import TRANSPORT_ALIASES

from streammesh.redisio.pools import ALIAS, broker_url, shown
from streammesh.transport.channel import StreamChannel
from streammesh.transport.codec import make_tag, parse_tag
from streammesh.transport.dropped import never_to_run
from streammesh.transport.internals import KombuPoller, KombuTransport, check, wake

__all__ = ["Transport", "broker_url", "install", "make_tag", "parse_tag"]


def install() -> None:
    """Make kombu know `mesh+…://` URLs; harmless when called again. Raises IncompatibleLibrary."""
    check()
    TRANSPORT_ALIASES[ALIAS] = f"{__name__}:Transport"


class Poller(KombuPoller):
    """kombu's poller, for channels that read in batches and take entries over."""

    def on_poll_start(self) -> None:
        """Before the event loop waits: deliver what need not be waited for, then ask for more."""
        for channel in self.channels:
            channel.reader.prepare()
            loop = channel.connection.loop
            if loop is not None and not channel.reader.yields and channel.reader.deliver():
                wake(loop)
        super().on_poll_start()

    def get(self, callback: Any, timeout: float | None = None) -> None:
        """Without an event loop: deliver one entry, or wait for one. Raises queue.Empty."""
        for channel in self.channels:
            channel.reader.prepare()
            if channel.reader.deliver():
                return
        super().get(callback, timeout)

    def on_readable(self, fileno: int) -> Any:
        """Take an answer whatever the prefetch limit says by now: Redis has delivered it already."""
        found = self.waiting(fileno)
        if found is None:
            return None
        channel, kind = found
        if kind == "BRPOP" and not channel.reading:
            channel.client.connection.disconnect()  # closed by the server while nothing was asked
            return None
        return channel.handlers[kind]()


class Transport(KombuTransport):
    """See the module."""

    Channel = StreamChannel
    can_parse_url = True
    driver_name = "streammesh"
    brpop_timeout = 5  # seconds that a read waits at most; the name is kombu's
    loop: Any = None  # the worker's event loop, where there is one

    def __init__(self, client: Any, **options: Any) -> None:
        if len(client.alt or ()) > 1:
            raise ValueError(
                "the mesh has one broker URL; for failover use redis+sentinel://host,host/service"
            )
        if "://" not in (client.hostname or ""):
            raise ValueError(f"the broker URL should begin with {ALIAS}+redis:// or the like")
        super().__init__(client, **options)
        self.cycle = Poller()

    @property
    def supports_batch_publish(self) -> bool:
        """Whether nothing resends commands by itself, so that a batch is sent once."""
        return not self.client.transport_options.get("retry_on_timeout")

    def as_uri(self, uri: str, include_password: bool = False, mask: str | None = "**") -> str:
        """The URL for people."""
        return f"{ALIAS}+{uri if include_password else shown(uri, mask)}"

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """As kombu's."""
        self.loop = loop
        super().register_with_event_loop(connection, loop)

    def create_channel(self, connection: Any) -> Any:
        """As kombu's."""
        channel = super().create_channel(connection)
        channel.keeper.never_to_run = partial(never_to_run, self)
        return channel

    def unwanted(self, message: dict[str, Any]) -> None:
        """An entry of a queue that nobody here reads any more goes back."""
        tag = message["properties"]["delivery_tag"]
        for channel in self.channels:
            channel.keeper.give_back([tag])
