"""Filters written in CEL, the Common Expression Language: a part of it that is bounded in time, whoever wrote it. Pure."""
