"""The device's own lock: a program that says whether a switch may begin now."""
