"""The planner: which rollouts open and which hosts go now, and for the others, why not. Pure."""
