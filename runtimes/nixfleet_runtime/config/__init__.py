"""Declaring, reading and checking configuration options, for both sides alike."""
