"""Signing a release, verifying it as its readers do, and the trust file both depend on."""
