"""Durable state: the `Journal` Protocol, the SQLite journal, its queries, loading, and the outbox read from it."""
