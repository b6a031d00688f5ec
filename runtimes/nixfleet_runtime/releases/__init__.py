"""The layout of a release directory, reading a release, and the hash of a closure."""
