"""The declaration as its author wrote it: TOML files read into typed values, each with its place in the file."""
