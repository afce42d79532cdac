"""Content nobody would write on purpose, thrown at the mesh; the long form runs with `make fuzz`."""
