"""What goes in and out of the engine, as data: inputs and journal writes. No decisions."""
