"""What is sent: which lines, put together how, in which form, signed how. Pure."""
