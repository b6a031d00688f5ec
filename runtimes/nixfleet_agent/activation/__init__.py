"""Activation on the machine: the `Activator` Protocol, the two activators, and the commands they run."""
