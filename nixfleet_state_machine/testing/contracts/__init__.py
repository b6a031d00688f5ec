"""Contracts of what carries effects out: pytest classes to subclass, with one method to fill in. Needs pytest.

The contracts of a store, a journal, an activator, a transport, a clock and a kernel lie beside their ports,
in the `testing` package of each runtime. What all of them have in common: a test that fails says what the
implementation did wrong, in words its author can act on, and no test asks for more than the port's own
documentation promises.
"""
