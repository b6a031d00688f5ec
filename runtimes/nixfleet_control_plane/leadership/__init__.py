"""Which of several control planes on one store leads, and what the others do. `decision` decides it."""
