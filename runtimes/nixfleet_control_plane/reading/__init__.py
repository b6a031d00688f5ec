"""The read port: the `Queries` that operators' calls and commands ask, and what answers them from SQLite."""
