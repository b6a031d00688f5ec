"""Several control planes on one store: the store's server, and the processes that drive the production leadership."""
