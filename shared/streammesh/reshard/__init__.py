"""A mesh that stands still is copied into more shards, under another namespace."""

from streammesh.reshard.move import MoveProgress, Reshard
from streammesh.reshard.survey import Survey, survey

__all__ = ["MoveProgress", "Reshard", "Survey", "survey"]
