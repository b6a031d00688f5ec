"""Contracts of what both sides share: pytest classes to subclass. Needs pytest; nothing else imports it."""
