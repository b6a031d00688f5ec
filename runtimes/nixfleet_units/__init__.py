"""Units for systemd: the services of nixfleet, each with what it may do and nothing more."""
