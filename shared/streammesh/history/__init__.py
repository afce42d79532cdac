"""The history: what has ended, outside Redis, in SQLite or PostgreSQL.

The archiver writes it (`services/archiver`); the API and reports read it. One database belongs to one mesh.
"""
