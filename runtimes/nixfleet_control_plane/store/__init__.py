"""Durable storage: the `Store` protocol, the SQLite store and its schema, and read-only queries on its tables."""
