"""Hosts' calls and dispatches over NATS: `kind = "nats"` of both sides. The extra is `nats`."""
