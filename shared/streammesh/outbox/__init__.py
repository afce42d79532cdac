"""Events that are published in a transaction of a service's own database: a table, who writes it, who relays it.

A service adds an event in the transaction that changes its data; the relay publishes it afterwards, once for the mesh.
Needs SQLAlchemy: `streammesh[outbox]`.
"""

from __future__ import annotations

from streammesh.outbox.relay import Passed, Relay
from streammesh.outbox.table import outbox_table
from streammesh.outbox.writer import Outbox

__all__ = ["Outbox", "Passed", "Relay", "outbox_table"]
