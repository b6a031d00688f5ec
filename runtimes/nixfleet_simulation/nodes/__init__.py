"""The simulated world: clocks, network, disks, CI, and the production engines and workers running on them."""
