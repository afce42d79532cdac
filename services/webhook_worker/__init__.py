"""Delivers notifications to the URLs that asked for them."""
