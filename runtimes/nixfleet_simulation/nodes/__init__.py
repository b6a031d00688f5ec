"""The simulated world: clock, network, disks, CI, and the production engines running on them."""
