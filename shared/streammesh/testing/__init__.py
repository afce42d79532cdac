"""What tests of the mesh and of teams need: a private server, a mesh of their own, waiting for conditions."""
