"""A service for tests with two queues and sync handlers."""
