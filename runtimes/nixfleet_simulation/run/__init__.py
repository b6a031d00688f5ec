"""Runs a scenario until the faults have ended and the fleet has settled."""
