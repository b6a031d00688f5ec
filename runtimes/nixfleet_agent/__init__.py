"""The agent: lives the facts of one host, keeps them in a journal, acts only on signed manifests."""
