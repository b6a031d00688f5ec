"""Scopes: which hosts a selector means, and which of several declarations a host lives by. Pure."""
