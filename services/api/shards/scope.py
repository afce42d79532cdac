"""Which shard a request, or a part of one, is about: said in its ASGI scope."""

from __future__ import annotations

SHARD = "streammesh.shard"  # its number; a request without one is about the first shard, where all lies that is there once
ECHO = "streammesh.echo"  # that the same is done in another shard, where it is noted
