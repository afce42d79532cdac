"""How large a result may be: it is told to everybody who listens, and read in one turn of an event loop. Pure."""

from __future__ import annotations

from streammesh import plain_json
from streammesh.errors import ResultTooLarge
from streammesh.events.envelope import MAX_VALUES

VALUES_BESIDE = 10_000  # of an outcome: its follow-up events
_NAMED = len('{"result":}')
_ADVICE = "put it into a store, and return its address"


def check_result(outcome: bytes, beside: int, most: int) -> None:
    """Raises ResultTooLarge for an outcome whose result has more than `most` bytes; `beside` is its events' part."""
    size = len(outcome) - _NAMED - beside
    if size > most:
        raise ResultTooLarge(
            f"the result has {size:,} bytes where at most {most:,} are allowed (MESH_MAX_RESULT_BYTES): {_ADVICE}"
        )
    if plain_json.is_crowded(outcome, MAX_VALUES + VALUES_BESIDE):
        raise ResultTooLarge(
            f"the result holds more than {MAX_VALUES:,} values, of which a list or an object counts twice: {_ADVICE}"
        )
