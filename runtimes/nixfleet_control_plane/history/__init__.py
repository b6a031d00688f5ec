"""What is read back from the log: loading the state at a start, rebuilding the views, following and narrating it."""
