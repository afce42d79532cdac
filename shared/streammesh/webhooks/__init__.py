"""Webhooks: who is told what at which URL, what waits to be delivered, and how a delivery is signed."""
