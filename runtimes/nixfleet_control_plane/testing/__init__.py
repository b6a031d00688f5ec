"""Contracts of a control plane's ports: pytest classes to subclass. Needs pytest; nothing else imports it."""
