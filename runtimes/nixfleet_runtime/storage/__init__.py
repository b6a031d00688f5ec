"""Shared by both databases: the SQLite helpers, the instance lock, the codec of stored records."""
