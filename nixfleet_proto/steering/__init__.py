"""What people decide about rollouts, as data: guards of waves, and signed statements."""
