"""The rollout machine: one record per rollout, on the control plane, moved by `reducer.step_rollout`."""
