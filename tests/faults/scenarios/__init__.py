"""One file per scenario: what is broken, and what must hold all the same."""
