"""Scopes: which hosts a selector matches, and which of several declarations applies to a host. Pure."""
