"""What the API uses of uvicorn that uvicorn does not promise to keep: its protocol, and how a server starts and stops."""

from __future__ import annotations

from functools import cache

from streammesh.redisio import internals
from streammesh.redisio.internals import Expected

EXPECTED = (
    Expected("uvicorn.protocols.http.httptools_impl", {}, ("STATUS_LINE",)),
    Expected(
        "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol",
        {
            **dict.fromkeys(("on_message_begin", "on_headers_complete", "eof_received"), ()),
            **dict.fromkeys(("pause_writing", "resume_writing"), ()),
            "connection_made": ("transport",),
            "connection_lost": ("exc",),
            "on_header": ("name", "value"),
            "on_body": ("body",),
            "data_received": ("data",),
            "send_400_response": ("msg",),
        },
        ("loop", "transport", "scope", "cycle", "parser", "pipeline"),
    ),
    Expected(
        "uvicorn.protocols.http.httptools_impl:RequestResponseCycle",
        {},
        ("more_body", "response_started", "response_complete", "disconnected", "message_event"),
    ),
    Expected(
        "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol",
        {"send": ("message",)},
        ("transport", "handshake_complete", "close_sent"),
    ),
    Expected(
        "uvicorn:Server",
        {
            "startup": ("sockets",),
            "shutdown": ("sockets",),
            "handle_exit": ("sig", "frame"),
            "capture_signals": (),
        },
        ("servers", "started"),
    ),
)


@cache
def check() -> None:
    """Raise IncompatibleLibrary unless uvicorn is as needed; looks once in a process."""
    internals.require(EXPECTED)
