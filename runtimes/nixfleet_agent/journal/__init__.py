"""What lasts: the `Journal` Protocol, the SQLite journal, its queries, loading it at a start, and the outbox read
from it.
"""
