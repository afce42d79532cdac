"""How the mesh is: what is read of it, what is wrong with it, and what a subscription that has not run waits for."""
