"""Reads the release directory: verifies signed artefacts, and polls for new ones."""
