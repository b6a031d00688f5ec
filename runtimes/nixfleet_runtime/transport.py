"""The protocol between an agent and its control plane. Implementations: in-process and HTTP.

Control flow is pull only: the control plane never opens a connection to a host. Answers are values; `TransportFailed`
means that no answer came, and leaves open whether the request arrived.
Source: docs/spec/wire.md, Calls.
"""

from datetime import datetime
from typing import Final, Protocol, TypeAlias

from attrs import frozen

from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.steering.warrant import SignedWarrant
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch, SignedArtefact
from nixfleet_state_machine.host.state import HostRolloutState

ANSWER_SECONDS_MAX: Final = 30.0
"""How long an answer may take, from the request to its last byte. A long poll adds its own waiting time."""


class TransportFailed(NixfleetError):
    """No usable answer came: the outcome of the request is unknown. Repeat it.

    retry_after_seconds: how long to wait first, if the other side said so. kind: distinguishes causes, for example the
    type of the problem in the answer. was_answered: the control plane answered, if not with a result.
    """

    def __init__(
        self,
        problem: str,
        retry_after_seconds: float | None = None,
        kind: str = "",
        *,
        was_answered: bool = False,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        self.kind = kind
        self.was_answered = was_answered

    def __str__(self) -> str:
        return self.problem


class TransportUnusable(NixfleetError):
    """A transport cannot begin to serve, for a reason that its operator can remove. Subclasses say what to do."""


@frozen
class ReplayFrom:
    """Events are missing: send this rollout's events again, from `first_missing_seq`. (409)"""

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


@frozen
class SeqForked:
    """Another fact with this number is durable; it stays. Two machines may have this host's key. (409)"""

    rollout_id: str
    seq: int

    def __str__(self) -> str:
        return (
            f"another fact with seq {self.seq} of {self.rollout_id} is durable: the journal was set back, or another "
            "machine has this host's key"
        )


@frozen
class EventEarly:
    """The event `seq` cannot be true yet, by the control plane's clock; it was not taken, nor what came after it.

    Send it again later, unchanged: what it says is true then. retry_after_seconds: when it will be taken. (409)
    """

    rollout_id: str
    seq: int
    reason: str
    retry_after_seconds: int


@frozen
class HostHeld:
    """The host contradicted itself: nothing new is taken from it until an operator resumes it. Keep the facts. (409)"""

    rollout_id: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the control plane holds this host: {self.reason}. Two machines have its key, or its journal was set "
            "back: stop the other machine, then have an operator resume the host"
        )


EventRefusal: TypeAlias = (
    ReplayFrom | EventRefused | RolloutUnknown | SeqForked | EventEarly | HostHeld
)


@frozen
class EventsOutcome:
    """The first `accepted` events are durable, duplicates included. stopped_by: why the next one was not accepted."""

    accepted: int
    stopped_by: EventRefusal | None = None


@frozen
class ActingRefusal:
    """The agent does not act in a rollout: it refuses to, or waits for the closure. `reason` is for people."""

    rollout_id: str
    reason: str
    since: datetime


@frozen
class Heartbeat:
    """The host is up and runs `current_closure`. last_seqs: the last event number in its journal, by rollout id.

    refusals: what the agent does not act on now, and why.
    """

    hostname: str
    current_closure: str
    last_seqs: FrozenMap[str, int]
    refusals: tuple[ActingRefusal, ...] = ()


@frozen
class ReleaseInForce:
    """The rollout that the host's channel points at, and when its manifest was signed. A claim, until verified."""

    rollout_id: str
    signed_at: datetime


@frozen
class HeartbeatReply:
    """What each side lacks of the other's records.

    bootstrap_rollouts: records of this host that are ahead of its journal (a replaced disk). replay_from: rollouts in
    which the journal is ahead (a rebuilt control plane). release: what is in force for the host's channel. resting:
    those of the host's rollouts that have come to rest, whose Converged hosts are watched no more.
    warrants: of operators, for this host; relayed until their facts are known.
    """

    received_at: datetime
    bootstrap_rollouts: tuple[HostRolloutState, ...] = ()
    replay_from: tuple[ReplayFrom, ...] = ()
    release: ReleaseInForce | None = None
    resting: tuple[str, ...] = ()
    warrants: tuple[SignedWarrant, ...] = ()


class Transport(Protocol):
    """One host's connection to its control plane. Every call raises TransportFailed when no answer came.

    The transport authenticates: its server must prove which host calls, and hand that name to the control plane's
    service. The service trusts it, and refuses a message that names another host.
    A call may be cancelled at any time, a poll at every moment of its wait: nothing may stay open then.
    """

    async def post_events(self, envelopes: tuple[AgentEventEnvelope, ...]) -> EventsOutcome:
        """Return which of `envelopes` were accepted. They are all of this host, in order, at most BATCH_LENGTH_MAX."""
        ...

    async def next_dispatch(self, wait_seconds: float) -> Dispatch | None:
        """Return this host's queued dispatch, `None` if none came in `wait_seconds`.

        The same dispatch is returned until its `DispatchAck` is durable.
        """
        ...

    async def heartbeat(self, heartbeat: Heartbeat) -> HeartbeatReply:
        """Return what each side lacks of the other's records."""
        ...

    async def fetch_manifest(self, rollout_id: str) -> SignedArtefact | None:
        """Return the manifest byte for byte as it was signed, `None` if the rollout is unknown."""
        ...
