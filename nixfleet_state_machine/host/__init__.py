"""The host machine: one record per (rollout, host), moved by `reducer.step` and by nothing else."""
