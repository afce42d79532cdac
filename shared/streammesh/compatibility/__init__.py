"""Whether what one service publishes is what another reads, before it is deployed."""
