"""The planner: which rollouts open, which hosts are dispatched now, and why the others wait. Pure."""
