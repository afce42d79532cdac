"""Subscriptions: what a service wants, as its manifest says it, and the registry of all manifests."""
