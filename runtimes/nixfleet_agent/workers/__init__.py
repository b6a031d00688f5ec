"""The agent's workers: each yields steps of I/O to a shell, and posts the results to the engine."""
