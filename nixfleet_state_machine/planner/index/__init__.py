"""What makes a replan cheap: hosts kept in lanes, tallies and changes, updated as facts arrive. `plan` decides."""
