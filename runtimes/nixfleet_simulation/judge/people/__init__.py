"""Judges of what people see: the counts of an overview, and the messages of a notifier."""
