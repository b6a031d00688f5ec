"""The agent: records the facts of one host in a journal, reports them, and acts only on signed manifests."""
