"""Shards: which channels a log has, what ties channels together, and what one log says of a channel to another. Pure.

Source: docs/spec/shards.md.
"""
