"""Event streams: publish once, read in groups, reclaim, trim."""

from streammesh.streams.publish import Published, Publisher, SyncPublisher

__all__ = ["Published", "Publisher", "SyncPublisher"]
