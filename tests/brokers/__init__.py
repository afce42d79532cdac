"""The mesh's own tests of real workers, run on each other broker: `python -m tests.brokers`."""
