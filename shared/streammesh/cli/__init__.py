"""The `streammesh` command."""

from __future__ import annotations


def main() -> None:
    """Run the command."""
    from streammesh.cli.commands import app

    app()
