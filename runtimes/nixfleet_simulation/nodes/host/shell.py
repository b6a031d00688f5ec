"""What the workers of a simulated agent share: how they post, call and wait. No decisions."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from attrs import frozen

from nixfleet_agent.messages.inputs import Input, Reply
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.transport import TransportFailed
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.crash_boundaries import Crossings
from nixfleet_simulation.nodes.host.machine import SimulatedMachine
from nixfleet_simulation.nodes.memory_journal import MemoryJournal
from nixfleet_simulation.nodes.network import Answer, Request
from nixfleet_simulation.scenario.randomness import Chance
from nixfleet_simulation.scenario.scenario import Cadence

ANSWER_AFTER_MAX = 30 * SECOND
"""How long an answer may take, beyond the time that a long-poll waits anyway. As in `http_transport`."""

Insist: TypeAlias = Callable[[Input, Callable[[Reply], None]], None]
"""Tell the engine something, however often it takes until it is durable."""

TryOnce: TypeAlias = Callable[[Input, Callable[[Reply | None], None]], None]
"""Tell the engine something; no reply if it could not be made durable."""


class CallOut(Protocol):
    """Asks the control plane something."""

    def __call__(
        self,
        request: Request,
        timeout: int,
        answered: Callable[[Answer], None],
        failed: Callable[[TransportFailed], None],
    ) -> None: ...


@frozen
class WorkerShell:
    """Everything a worker may touch. trust: what the host believes right now."""

    hostname: str
    agenda: Agenda
    life: NodeLifetime
    clock: NodeClock
    chance: Chance
    cadence: Cadence
    machine: SimulatedMachine
    journal: MemoryJournal
    crossings: Crossings
    trust: Callable[[], TrustRoot]
    insist: Insist
    try_once: TryOnce
    call: CallOut

    def after(self, seconds: float, happen: Callable[..., None], *arguments: object) -> None:
        """Let `happen` come in `seconds`, if the process lives."""
        self.agenda.after(int(seconds * SECOND), self.life, happen, *arguments)


def ignore(_: Reply | None) -> None:
    """Nobody waits for this reply."""
