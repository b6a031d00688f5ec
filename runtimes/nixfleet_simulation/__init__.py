"""The simulated fleet: production engines under every fault, from one number, checked after every step."""
