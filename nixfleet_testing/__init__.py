"""Test support for this library and for code built on it: strategies, machines, contracts, conformance, exploration.

Nothing the runtimes ship may import it. This module imports nothing, because Hypothesis loads `plugin` through it in
every project that has both installed; each part is imported by its own name and needs what it says.
"""
