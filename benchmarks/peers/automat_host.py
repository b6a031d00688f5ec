"""A host in `automat`: inputs are methods of a protocol. It has no guards, so the rules are asked in the output."""

from collections.abc import Callable
from typing import Protocol

from automat import TypeMachineBuilder

from benchmarks.peers.kept import KeptHost
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    Converged,
    DispatchAck,
    ProbeObservedFirst,
    ProbeResult,
    ProbeTopologyDeclared,
)


class Host(Protocol):
    """What a host can be told."""

    def acknowledge(self, fact: DispatchAck) -> None: ...
    def start(self, fact: ActivationStarted) -> None: ...
    def complete(self, fact: ActivationCompleted) -> None: ...
    def declare(self, fact: ProbeTopologyDeclared) -> None: ...
    def observe(self, fact: ProbeObservedFirst) -> None: ...
    def probe(self, fact: ProbeResult) -> None: ...
    def converge(self, fact: Converged) -> None: ...


_builder = TypeMachineBuilder(Host, KeptHost)
_pending, _activating, _soaking, _converged = map(
    _builder.state, ("pending", "activating", "soaking", "converged")
)


@_pending.upon(Host.acknowledge).to(_activating)
def _acknowledge(_: Host, kept: KeptHost, fact: DispatchAck) -> None:
    kept.acknowledge(fact)


@_activating.upon(Host.start).loop()
def _start(_: Host, kept: KeptHost, fact: ActivationStarted) -> None:
    kept.start(fact)


@_activating.upon(Host.complete).to(_soaking)
def _complete(_: Host, kept: KeptHost, fact: ActivationCompleted) -> None:
    kept.complete(fact)


@_soaking.upon(Host.declare).loop()
def _declare(_: Host, kept: KeptHost, fact: ProbeTopologyDeclared) -> None:
    kept.declare(fact)


@_soaking.upon(Host.observe).loop()
def _observe(_: Host, kept: KeptHost, fact: ProbeObservedFirst) -> None:
    kept.observe(fact)


@_soaking.upon(Host.probe).loop()
def _probe(_: Host, kept: KeptHost, fact: ProbeResult) -> None:
    kept.probe(fact)


@_soaking.upon(Host.converge).to(_converged)
def _converge(_: Host, kept: KeptHost, fact: Converged) -> None:
    if not kept.may_converge(fact):
        raise ValueError(fact)
    kept.converge(fact)


_machine = _builder.build()


def make_host() -> Callable[[object], None]:
    """Return a host that is told facts."""
    host = _machine(KeptHost())
    inputs = {
        "DispatchAck": host.acknowledge,
        "ActivationStarted": host.start,
        "ActivationCompleted": host.complete,
        "ProbeTopologyDeclared": host.declare,
        "ProbeObservedFirst": host.observe,
        "ProbeResult": host.probe,
        "Converged": host.converge,
    }
    return lambda fact: inputs[type(fact).__name__](fact)
