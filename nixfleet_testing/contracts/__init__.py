"""Contracts of the ports: pytest classes to subclass, with one method to implement. Needs pytest.

One module per contract, named after the port: `agent_applier`, `control_plane_applier`, `store`, `journal`,
`transport`, `activator`, `clock`, `mutator`; the other modules are shared between them. A failing test says what the
implementation did wrong, in words its author can act on, and no test asks for more than the port documents.
Importing any of them under `python -O` is a usage error.
"""

from nixfleet_testing.assertions import require_assertions

require_assertions("the contracts of nixfleet_testing")
