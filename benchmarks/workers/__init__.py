"""Services that do nothing, or wait for 10 ms, as quickly as they can."""
