"""How one API serves a mesh of several shards; a mesh of one never comes here."""
