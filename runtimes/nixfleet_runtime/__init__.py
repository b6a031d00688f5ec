"""What both sides share: the single mutator, clocks, SQLite, closures' hashes, the transport's Protocol."""
