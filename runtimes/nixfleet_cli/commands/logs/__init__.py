"""Commands on a log that have files of their own."""
