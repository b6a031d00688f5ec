"""The edge to the release directory: scan it for signed artefacts, and watch it for new ones."""
