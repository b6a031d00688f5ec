"""What is found by reading the log once more: the fleet of the past, what a release changed, back-tests, the chain."""
