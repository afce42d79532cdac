"""Several editions of one service side by side: what its manifest is then, and whom each task is kept for."""
