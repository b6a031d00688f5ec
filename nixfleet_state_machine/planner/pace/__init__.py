"""The pace of a disruption budget: how its slots grow, and how many hosts begin in a minute. Pure."""
