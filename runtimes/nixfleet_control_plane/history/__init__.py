"""Everything read back from the log: loading the state at a start, checking the views, following, narration."""
