"""One host in virtual time: its machine, its agent's process and that process's workers."""
