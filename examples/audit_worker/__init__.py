"""Keeps an audit log: who did what and when, one line of JSON for each, appended and never changed."""
