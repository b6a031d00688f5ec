"""What can be put to the agent's engine, what it replies, and what it orders the workers to do. Data.

Source: docs/spec/runtimes.md, Agent.
"""

from enum import StrEnum
from typing import TypeAlias

from attrs import frozen

from nixfleet_agent.activation.activator import RollbackFinished, SwitchOutcome
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.trust import Verified
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import EventRefused, ReplayFrom
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.state import HostRolloutState


class IntentKind(StrEnum):
    """What the machine is to be made to do."""

    SWITCH = "switch"
    ROLLBACK = "rollback"


@frozen
class Intent:
    """A decision whose act is not known to be over. It is durable before the act begins."""

    intent_id: int
    kind: IntentKind
    rollout_id: RolloutId
    closure: str


@frozen
class Booted:
    """The agent has started; `running_closure` is what it found."""

    running_closure: str


@frozen
class DispatchOffered:
    """A dispatch came, with the verified manifest of its rollout and what is running now."""

    dispatch: Dispatch
    manifest: Verified[RolloutManifest]
    running_closure: str


@frozen
class SwitchStarted:
    """The switch of an intent has begun, by this method."""

    intent_id: int
    switch_method: str


@frozen
class SwitchEnded:
    intent_id: int
    outcome: SwitchOutcome


@frozen
class RollbackEnded:
    intent_id: int
    outcome: RollbackFinished


@frozen
class ChecksLoaded:
    """The health checks of the closure that a rollout now runs were read out of it."""

    rollout_id: RolloutId
    checks: HealthCheckSet


@frozen
class ChecksUnreadable:
    """The closure's health checks could not be read."""

    rollout_id: RolloutId
    problem: str


@frozen
class ProbeRan:
    """A probe ran once."""

    rollout_id: RolloutId
    probe_name: str
    outcome: ProbeOutcome


@frozen
class RunningClosureSeen:
    """What is running was looked at: a reboot may have brought a deferred closure to life."""

    running_closure: str


@frozen
class EventsAcknowledged:
    """The control plane has made these journal rows durable."""

    row_ids: tuple[int, ...]


@frozen
class EventRejected:
    """The control plane will never take this journal row."""

    row_id: int
    refusal: EventRefused


@frozen
class ReplayAsked:
    """The control plane lacks events that were sent already."""

    replay: ReplayFrom


@frozen
class RecordBootstrapped:
    """The control plane remembers more of a rollout than the journal does: a disk was replaced."""

    record: HostRolloutState
    manifest: Verified[RolloutManifest]


@frozen
class RolloutDisowned:
    """The control plane does not know a rollout of which it is told."""

    rollout_id: RolloutId


@frozen
class Tick:
    """Time passed. unsent: the rollouts of which facts wait in the journal."""

    unsent: frozenset[RolloutId] = frozenset()


Input: TypeAlias = (
    Booted
    | DispatchOffered
    | SwitchStarted
    | SwitchEnded
    | RollbackEnded
    | ChecksLoaded
    | ChecksUnreadable
    | ProbeRan
    | RunningClosureSeen
    | EventsAcknowledged
    | EventRejected
    | ReplayAsked
    | RecordBootstrapped
    | RolloutDisowned
    | Tick
)


@frozen
class Done:
    """The input was taken, or had nothing to say any more."""


@frozen
class DispatchTaken:
    """The dispatch is acknowledged; the acknowledgement is in the journal."""


@frozen
class DispatchPostponed:
    """A switch or rollback is under way; the dispatch stays queued, offer it again later."""


@frozen
class DispatchRefused:
    """The dispatch is not what the signed manifest says; the agent does not act on it."""

    reason: str


Reply: TypeAlias = Done | DispatchTaken | DispatchPostponed | DispatchRefused


@frozen
class CarryOut:
    """Begin with this intent when the ones before it are over. Given twice, it is done once."""

    intent: Intent


@frozen
class LoadChecks:
    """Read the health checks out of `closure` and say what they are."""

    rollout_id: RolloutId
    closure: str


@frozen
class StartProbes:
    """Run these probes, each at its interval, until `StopProbes`."""

    rollout_id: RolloutId
    checks: HealthCheckSet


@frozen
class StopProbes:
    """Stop this rollout's probes and forget what they found."""

    rollout_id: RolloutId


@frozen
class WakeSender:
    """There is something to send."""


@frozen
class KeepManifestsOf:
    """These rollouts are in the journal; the manifests of others need not be kept."""

    rollout_ids: tuple[RolloutId, ...]


Action: TypeAlias = (
    CarryOut
    | LoadChecks
    | StartProbes
    | StopProbes
    | WakeSender
    | KeepManifestsOf
    | EmitMetric
    | EmitLog
)
