"""One host in virtual time: its machine, its agent's process, and the shell that runs the agent's workers."""
