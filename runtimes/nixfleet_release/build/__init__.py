"""Builds the resolved fleet, closures and manifests from a checked declaration. No keys, no network."""
