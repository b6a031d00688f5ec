"""The indexes that make `replan` cheap: lanes, tallies and changes, updated as facts arrive. `plan` decides."""
