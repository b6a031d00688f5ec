"""Presents the results of runs: report, story, crash points, and a smaller scenario that fails the same way."""
