"""The control plane: tracks every host, plans, queues dispatches and keeps the canonical log. It holds no key."""
