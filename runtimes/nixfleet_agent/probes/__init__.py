"""Probe runners: one per kind of health check. Each turns a check into a `ProbeOutcome` and never raises."""
