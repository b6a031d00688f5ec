"""The commands of `nixfleet operator` that steer rollouts beyond pausing, and what all operator commands share."""
