"""`nixfleet watch`: a rollout as it goes, in a terminal, a pipe or a build. It decides nothing about a fleet."""
