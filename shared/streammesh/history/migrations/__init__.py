"""Steps of the schema, run by Alembic. `streammesh.history.store` runs them when the archiver starts."""
