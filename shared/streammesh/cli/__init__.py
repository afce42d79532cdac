"""The `streammesh` command."""

from __future__ import annotations

import io
import sys

from streammesh.extras import what_to_install


def main() -> None:
    """Run the command. What a terminal's encoding does not have is written as an escape, never an error."""
    # redis-py looks for OpenTelemetry as it is imported, a third of the time that a command has to start.
    sys.modules.setdefault("opentelemetry", None)  # type: ignore[arg-type]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        from streammesh.cli.commands import app

        app()
    except ModuleNotFoundError as error:
        said = what_to_install("this command", error)
        if said is None:
            raise
        sys.stderr.write(f"{said}\n")
        raise SystemExit(2) from None
