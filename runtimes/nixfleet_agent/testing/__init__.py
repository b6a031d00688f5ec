"""Contracts of an agent's ports: pytest classes to subclass. Needs pytest; nothing else imports it."""
