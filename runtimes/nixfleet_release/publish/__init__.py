"""Writes a release directory, replaces an earlier one, and compares the two."""
