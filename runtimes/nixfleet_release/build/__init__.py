"""From a checked declaration to a resolved fleet, closures and manifests. No keys, no network."""
