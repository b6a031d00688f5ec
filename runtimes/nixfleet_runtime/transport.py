"""What an agent can ask of a control plane. One Protocol; in-process and HTTP are implementations of it.

Control flow is pull only: nothing here lets the control plane open a connection to a host. Answers are
values; `TransportFailed` means that no answer came, and says nothing about whether the request arrived.
Source: docs/spec/wire.md, Calls.
"""

from datetime import datetime
from typing import Protocol, TypeAlias

from attrs import frozen

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_state_machine.host.state import HostRolloutState


class TransportFailed(Exception):
    """No answer came that says what became of the request: repeat it.

    retry_after_seconds: how long the other side asked to wait first, if it did.
    kind: what tells one reason from another, such as the type of the problem that the other side named.
    """

    def __init__(
        self, problem: str, retry_after_seconds: float | None = None, kind: str = ""
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        self.kind = kind

    def __str__(self) -> str:
        return self.problem


@frozen
class ReplayFrom:
    """There is a gap: send this rollout's events again, from `first_missing_seq`. (409)"""

    rollout_id: str
    first_missing_seq: int


@frozen
class EventRefused:
    """The event does not apply and never will; `reason` names the rule. (409)"""

    rollout_id: str
    seq: int
    reason: str


@frozen
class RolloutUnknown:
    """The control plane has no record of this host in that rollout. (404)"""

    rollout_id: str


EventRefusal: TypeAlias = ReplayFrom | EventRefused | RolloutUnknown


@frozen
class EventsOutcome:
    """The first `accepted` events are durable (or were already); what stopped the rest, if anything."""

    accepted: int
    stopped_by: EventRefusal | None = None


@frozen
class Heartbeat:
    """The host lives, runs `current_closure`, and its journal goes up to `last_seqs` by rollout id."""

    hostname: str
    current_closure: str
    last_seqs: FrozenMap[str, int]


@frozen
class HeartbeatReply:
    """What the control plane knows better, and what it lacks.

    bootstrap_rollouts: its records of this host that are ahead of the journal (a replaced disk).
    replay_from: rollouts in which the journal is ahead (a rebuilt control plane).
    """

    received_at: datetime
    bootstrap_rollouts: tuple[HostRolloutState, ...] = ()
    replay_from: tuple[ReplayFrom, ...] = ()


class Transport(Protocol):
    """One host's way to its control plane. Every call raises TransportFailed when no answer came."""

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        """Return what became of `envelopes`: all of this host, in order, at most BATCH_LENGTH_MAX."""
        ...

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        """Return the dispatch that waits for this host, `None` when none came in `wait_seconds`.

        The same dispatch is returned until its `DispatchAck` is durable.
        """
        ...

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Return what the two sides need to bring their records together."""
        ...

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        """Return the manifest exactly as it was signed, `None` when the rollout is unknown."""
        ...
