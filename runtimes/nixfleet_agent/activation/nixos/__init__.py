"""Activates NixOS systems: the activator, its record of a switch, the unit that switches, and what inhibits one."""
