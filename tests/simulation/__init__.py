"""Seeded simulation: the product's own code and scripts in virtual time, with faults at every command."""
