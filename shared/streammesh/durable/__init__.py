"""Durable handlers: steps that are recorded once, sleeping and waiting without a worker."""
