"""A mesh that stands still is copied into more shards, under another namespace."""

from streammesh.reshard.move import Progress, Reshard
from streammesh.reshard.survey import Survey, survey

__all__ = ["Progress", "Reshard", "Survey", "survey"]
