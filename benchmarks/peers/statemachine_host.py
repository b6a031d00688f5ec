"""A host in `python-statemachine`: a machine per host, with the host as its model."""

from collections.abc import Callable

from statemachine import State, StateMachine

from benchmarks.peers.kept import KeptHost


class HostMachine(StateMachine):
    """The states that a life goes through; the facts are its events."""

    pending = State(initial=True)
    activating = State()
    soaking = State()
    converged = State(final=True)

    DispatchAck = pending.to(activating, on="acknowledge")
    ActivationStarted = activating.to.itself(internal=True, on="start")
    ActivationCompleted = activating.to(soaking, on="complete")
    ProbeTopologyDeclared = soaking.to.itself(internal=True, on="declare")
    ProbeObservedFirst = soaking.to.itself(internal=True, on="observe")
    ProbeResult = soaking.to.itself(internal=True, on="probe")
    Converged = soaking.to(converged, cond="may_converge", on="converge")


def make_host() -> Callable[[object], None]:
    """Return a host that is told facts."""
    send = HostMachine(KeptHost()).send
    return lambda fact: send(type(fact).__name__, fact=fact)
