"""The declaration as written: reads TOML files into typed values, each with its position in the file."""
