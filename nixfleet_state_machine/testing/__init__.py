"""Support for tests of this library and of what is built on it. Nothing else may import it.

`strategies` needs Hypothesis, `conformance` needs cattrs; each is imported by its own name alone.
"""
