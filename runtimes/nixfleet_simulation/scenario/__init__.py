"""Scenarios: the fleet, and the acts that happen to it, drawn from one seed. Data only."""
