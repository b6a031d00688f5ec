"""The release directory's layout, and the hash of a closure that is a directory."""
