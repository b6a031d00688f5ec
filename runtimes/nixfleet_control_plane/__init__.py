"""The control plane: mirrors every host, plans, queues dispatches, keeps the canonical log. Holds no key."""
