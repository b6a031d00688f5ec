"""Strict reading of TOML documents: all problems at once, each with its path."""
