"""Turns events into e-mail and hands it to a mail server over SMTP."""
