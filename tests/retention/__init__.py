"""The beginning of a log: exported, dropped, and verified through its files."""
