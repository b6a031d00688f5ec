"""`nixfleet operator`: the commands that show how the fleet stands. They draw; the control plane says."""
