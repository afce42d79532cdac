"""Whole contributions of teams, to be copied into `services/`."""
