"""Runs a scenario step by step until the faults stop and the fleet rests."""
