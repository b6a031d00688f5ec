"""The routes, one module per kind of caller: agents, operators, enrolling hosts, and unauthenticated clients."""
