"""What lasts: the `Store` Protocol, the SQLite store and its schema, and read-only queries on its tables."""
