"""Device locks, through the layers: the program, the agent, the control plane, an operator who overrides."""
