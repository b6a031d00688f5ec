"""The beginning of the log: what of it may go, the files that it is exported to, and what is left in its place."""
