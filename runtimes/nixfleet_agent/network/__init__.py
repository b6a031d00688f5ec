"""The edge to the control plane: the HTTP transport, enrollment, and the cache of verified manifests."""
