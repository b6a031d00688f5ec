"""Shared by agent and control plane: the single mutator, clocks, SQLite, closure hashes, the transport protocol."""
