"""When what is sent, and what follows from an answer. Sans I/O: no clock, no chance, no files."""
