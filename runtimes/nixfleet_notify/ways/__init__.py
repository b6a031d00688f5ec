"""How messages go out, and how the log comes in. Thin: each does one bounded piece of I/O and decides nothing."""
