"""Signs a release, verifies it as its receivers do, and edits the trust file."""
