"""A process whose wall clock is set while it runs; see `sitecustomize.py`."""
