"""Communication with the control plane: the HTTP transport, enrollment, and the cache of verified manifests."""
