"""A host in `eventsourcing`: an aggregate whose commands trigger one event per fact; events mutate it."""

from collections.abc import Callable

from eventsourcing.domain import Aggregate, event

from benchmarks.peers.kept import KeptHost


class Host(Aggregate):
    """One host; its state is checked by hand, as there is no machine in this library."""

    @event("Created")
    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.state = "pending"
        self.kept = KeptHost()

    @event("DispatchAcked")
    def acknowledge(self, fact: object) -> None:
        self._require("pending")
        self.kept.acknowledge(fact)  # type: ignore[arg-type]
        self.state = "activating"

    @event("ActivationStarted")
    def start(self, fact: object) -> None:
        self._require("activating")
        self.kept.start(fact)  # type: ignore[arg-type]

    @event("ActivationCompleted")
    def complete(self, fact: object) -> None:
        self._require("activating")
        self.kept.complete(fact)  # type: ignore[arg-type]
        self.state = "soaking"

    @event("TopologyDeclared")
    def declare(self, fact: object) -> None:
        self._require("soaking")
        self.kept.declare(fact)  # type: ignore[arg-type]

    @event("ObservedFirst")
    def observe(self, fact: object) -> None:
        self._require("soaking")
        self.kept.observe(fact)  # type: ignore[arg-type]

    @event("Probed")
    def probe(self, fact: object) -> None:
        self._require("soaking")
        self.kept.probe(fact)  # type: ignore[arg-type]

    @event("HasConverged")
    def converge(self, fact: object) -> None:
        self._require("soaking")
        if not self.kept.may_converge(fact):  # type: ignore[arg-type]
            raise ValueError(fact)
        self.kept.converge(fact)  # type: ignore[arg-type]
        self.state = "converged"

    def _require(self, state: str) -> None:
        if self.state != state:
            raise ValueError(f"expected {state}, found {self.state}")


def make_host() -> Callable[[object], None]:
    """Return a host that is told facts."""
    host = Host("web-00001")
    commands = {
        "DispatchAck": host.acknowledge,
        "ActivationStarted": host.start,
        "ActivationCompleted": host.complete,
        "ProbeTopologyDeclared": host.declare,
        "ProbeObservedFirst": host.observe,
        "ProbeResult": host.probe,
        "Converged": host.converge,
    }
    return lambda fact: commands[type(fact).__name__](fact)
