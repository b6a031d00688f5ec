"""The simulated fleet: production engines and workers under every fault, from one seed, checked after every step."""
