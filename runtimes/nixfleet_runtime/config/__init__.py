"""Declares, reads and checks configuration options, for both sides."""
