"""Writing a release directory, replacing an earlier one, and comparing the two."""
