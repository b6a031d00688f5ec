"""A host in `transitions`: one machine, shared by all hosts, as its documentation advises for many models."""

from collections.abc import Callable

from transitions import Machine

from benchmarks.peers.kept import KeptHost

STATES = ("pending", "activating", "deferred", "soaking", "converged", "failed", "reverted")
TRANSITIONS = (
    ("DispatchAck", "pending", "activating", "acknowledge"),
    ("ActivationStarted", "activating", None, "start"),
    ("ActivationCompleted", ["activating", "deferred"], "soaking", "complete"),
    ("ProbeTopologyDeclared", "soaking", None, "declare"),
    ("ProbeObservedFirst", "soaking", None, "observe"),
    ("ProbeResult", "soaking", None, "probe"),
)


def _machine() -> Machine:
    machine = Machine(model=None, states=STATES, initial="pending", auto_transitions=False)
    for trigger, source, target, then in TRANSITIONS:
        machine.add_transition(trigger, source, target, before=then)
    machine.add_transition(
        "Converged", "soaking", "converged", conditions="may_converge", before="converge"
    )
    return machine


_MACHINE = _machine()


def make_host() -> Callable[[object], None]:
    """Return a host that is told facts."""
    host = KeptHost()
    _MACHINE.add_model(host)
    triggers = {name: getattr(host, name) for name in _MACHINE.events}
    return lambda fact: triggers[type(fact).__name__](fact)
