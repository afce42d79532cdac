"""Measures the mesh: throughput, latency, idleness, scale. `make bench`."""
