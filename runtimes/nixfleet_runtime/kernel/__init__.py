"""The single mutator, the `Engine` Protocol it drives, and clocks: what makes one writer per side."""
