"""Reading TOML and JSON documents strictly: every problem at once, each with its path."""
