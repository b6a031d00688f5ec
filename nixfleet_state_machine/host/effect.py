"""Effects of the host machine: orders that an applier carries out. Data, in the imperative.

Three rules. An effect says everything its applier needs, so no arm has to look anything up. `Local…` is for
the agent, `Remote…` for the control plane, and no side ever sees the other's: the unions below let the type
checker say which arm is missing. Nothing here does anything.
Source: docs/spec/host-machine.md, Effects.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState

OutboundAgentEvent: TypeAlias = AgentEvent
"""The payload of `LocalEmitEvent` and `RemoteAppendEventLog`: the fact itself."""

Labels: TypeAlias = tuple[tuple[str, str], ...]


class LogLevel(WordEnum):
    """How loud an `EmitLog` is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@frozen
@checked
class LocalFireSwitch:
    """Activate `target` on this host."""

    rollout_id: RolloutId
    target: str


@frozen
@checked
class LocalFireRollbackTo:
    """Go back to `closure`, which ran before the dispatch was acknowledged."""

    rollout_id: RolloutId
    closure: str


@frozen
@checked
class LocalResetProbeCache:
    """Stop this rollout's probe tickers and forget their results: another closure runs now."""

    rollout_id: RolloutId


@frozen
@checked
class LocalEmitEvent:
    """Put `payload` into the journal, to be sent; `durable` facts before anything that follows from them."""

    rollout_id: RolloutId
    payload: OutboundAgentEvent
    durable: bool


@frozen
@checked
class RemoteQueueDispatch:
    """Hand `target_closure` to `host` at its next poll, until it acknowledges."""

    host: str
    rollout_id: RolloutId
    target_closure: str
    soak_due_at: datetime
    attempt: int = 1


@frozen
@checked
class RemoteInsertQuarantine:
    """Never hand `closure` to a host of `channel` again, until an operator says so."""

    channel: str
    closure: str


@frozen
@checked
class RemoteOpenRolloutRecord:
    """Open the Pending record of `host` in a rollout."""

    rollout_id: RolloutId
    channel: str
    host: str


@frozen
@checked
class RemoteAppendEventLog:
    """Append what a host reported to the canonical log."""

    host: str
    rollout_id: RolloutId
    payload: OutboundAgentEvent


@frozen
@checked
class RecordTransition:
    """The host went from `from_` to `to`, at the time the fact itself carries."""

    host: str
    rollout_id: RolloutId
    from_: HostState
    to: HostState
    at: datetime


@frozen
@checked
class EmitMetric:
    """Count or observe `value`; the name follows Prometheus conventions (`_total`, `_seconds`)."""

    name: str
    labels: Labels
    value: float


@frozen
@checked
class EmitLog:
    """Tell the operator; `fields` carries the facts, `message` reads by itself."""

    level: LogLevel
    target: str
    message: str
    fields: Labels


AgentEffect: TypeAlias = (
    LocalEmitEvent
    | LocalFireSwitch
    | LocalFireRollbackTo
    | LocalResetProbeCache
    | RecordTransition
    | EmitMetric
    | EmitLog
)
ControlPlaneEffect: TypeAlias = (
    RemoteAppendEventLog
    | RemoteQueueDispatch
    | RemoteInsertQuarantine
    | RemoteOpenRolloutRecord
    | RecordTransition
    | EmitMetric
    | EmitLog
)
HostEffect: TypeAlias = AgentEffect | ControlPlaneEffect
