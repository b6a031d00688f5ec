"""Judges of checks: who is asked, what an answer means, and when to ask next. What they say is in the log."""
