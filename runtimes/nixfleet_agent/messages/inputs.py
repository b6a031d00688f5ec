"""The inputs of the agent's engine, its replies, and its actions for the workers. Data.

Source: docs/spec/runtimes.md, Agent.
"""

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from attrs import frozen

from nixfleet_agent.activation.activator import RollbackFinished, SwitchEnd
from nixfleet_agent.locks.lock import LockOutcome, LockQuestion
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import RolloutManifest
from nixfleet_proto.signing.warrant import VerifiedWarrant
from nixfleet_proto.trust import Verified
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.transport import EventRefused, ReplayFrom
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric
from nixfleet_state_machine.host.state import HostRolloutState


class IntentKind(StrEnum):
    """What an intent does to the machine."""

    SWITCH = "switch"
    ROLLBACK = "rollback"


@frozen
class Intent:
    """A switch or rollback that was decided and is not known to have ended. It is durable before it begins.

    attempts: how many processes of the agent began it.
    """

    intent_id: int
    kind: IntentKind
    rollout_id: RolloutId
    closure: str
    attempts: int = 0

    @property
    def order_id(self) -> str:
        """What the activator knows the order by. Numbers of intents are never given twice."""
        return f"{self.rollout_id}#{self.intent_id}"


@frozen
class Booted:
    """The agent has started and found `running_closure`."""

    running_closure: str


@frozen
class DispatchOffered:
    """A dispatch came, with the verified manifest of its rollout and the running closure."""

    dispatch: Dispatch
    manifest: Verified[RolloutManifest]
    running_closure: str


@frozen
class LockAnswered:
    """The host's own lock was asked for `offer`, which the engine had answered with `LockDue`.

    Reply: `Done`, to be offered again; `DispatchPostponed`, which is in the journal; or what became of the offer.
    """

    offer: DispatchOffered
    outcome: LockOutcome


@frozen
class ClosureAwaited:
    """The closure of a switch is not here, and nothing of the machine has changed: the switch waits for it."""

    intent_id: int
    reason: str


@frozen
class IntentBegun:
    """An intent is about to be carried out. Reply: `MayBegin`, `AttemptsUsedUp` or `IntentWithdrawn`."""

    intent_id: int


@frozen
class SwitchStarted:
    """The switch of an intent began, by `switch_method`. answered_at: the control plane's latest answer before."""

    intent_id: int
    switch_method: str
    answered_at: datetime | None = None


@frozen
class SwitchEnded:
    intent_id: int
    outcome: SwitchEnd


@frozen
class RollbackEnded:
    intent_id: int
    outcome: RollbackFinished


@frozen
class ChecksLoaded:
    """The health checks of a rollout's closure were read."""

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
class HomeLooked:
    """A look at the contact with the control plane, for a probe of kind `home`.

    answered_at: the latest answer to this process; `None`: none.
    second_answers: whether the second address accepted a connection; `None`: none is declared.
    """

    rollout_id: RolloutId
    probe_name: str
    answered_at: datetime | None
    second_answers: bool | None = None


@frozen
class RunningClosureSeen:
    """The running closure was read: a reboot may have activated a deferred closure."""

    running_closure: str


@frozen
class EventsAcknowledged:
    """The control plane has made these journal rows durable."""

    row_ids: tuple[int, ...]


@frozen
class EventRejected:
    """The control plane refused this journal row for good."""

    row_id: int
    refusal: EventRefused


@frozen
class ReplayAsked:
    """The control plane lacks events that were sent already."""

    replay: ReplayFrom


@frozen
class RecordBootstrapped:
    """The control plane's record of a rollout is ahead of the journal: a disk was replaced."""

    record: HostRolloutState
    manifest: Verified[RolloutManifest]


@frozen
class RolloutDisowned:
    """The control plane does not know a rollout whose facts were sent."""

    rollout_id: RolloutId


@frozen
class RolloutsRest:
    """The control plane says that these rollouts, and no others of this host, have come to rest."""

    rollout_ids: frozenset[str]


@frozen
class WarrantOffered:
    """An operator's warrant came, and its signature and time are good. Reply: `WarrantObeyed` or `WarrantRefused`."""

    verified: VerifiedWarrant


@frozen
class Tick:
    """Time passed. unsent: the rollouts with unsent facts in the journal."""

    unsent: frozenset[RolloutId] = frozenset()


Input: TypeAlias = (
    Booted
    | DispatchOffered
    | LockAnswered
    | ClosureAwaited
    | IntentBegun
    | SwitchStarted
    | SwitchEnded
    | RollbackEnded
    | ChecksLoaded
    | ChecksUnreadable
    | ProbeRan
    | HomeLooked
    | RunningClosureSeen
    | EventsAcknowledged
    | EventRejected
    | ReplayAsked
    | RecordBootstrapped
    | RolloutDisowned
    | RolloutsRest
    | WarrantOffered
    | Tick
)


@frozen
class Done:
    """The input was handled, or was obsolete."""


@frozen
class MayBegin:
    """The intent is to begin now. time_limit_seconds: when a switch is ended; `None`: by the activator alone."""

    time_limit_seconds: float | None


@frozen
class DispatchTaken:
    """The dispatch is acknowledged; the acknowledgement is in the journal."""


@frozen
class DispatchPostponed:
    """A switch or rollback is under way, or the host's lock says not now; the dispatch must be offered again."""


@frozen
class LockDue:
    """The dispatch would be taken, and the host's own lock must be asked first: answer with `LockAnswered`."""

    question: LockQuestion


@frozen
class DispatchRefused:
    """The dispatch differs from the signed manifest; the agent does not act on it."""

    reason: str


@frozen
class AttemptsUsedUp:
    """The intent was begun too often without an end: it has failed, which is in the journal, and must not begin."""


@frozen
class IntentWithdrawn:
    """The intent is not wanted any more, and must not begin: a newer rollout superseded it, or it ended already."""


@frozen
class RequestRefused:
    """The agent does not do what the answer to a heartbeat asks: to take over a record, or to send facts again."""

    rollout_id: str
    reason: str


@frozen
class WarrantObeyed:
    """The order is in the journal with the fact that follows from it, now or before."""


@frozen
class WarrantRefused:
    """The agent does not obey the warrant, and nothing has changed."""

    rollout_id: str
    reason: str


Reply: TypeAlias = (
    Done
    | MayBegin
    | AttemptsUsedUp
    | IntentWithdrawn
    | DispatchTaken
    | DispatchPostponed
    | LockDue
    | DispatchRefused
    | RequestRefused
    | WarrantObeyed
    | WarrantRefused
)


@frozen
class CarryOut:
    """Carry out this intent after those before it. Idempotent."""

    intent: Intent


@frozen
class WithdrawIntent:
    """Stop waiting for the closure of this intent, which is not to be carried out. It has not begun."""

    intent: Intent


@frozen
class LoadChecks:
    """Read the health checks of `closure` and post them."""

    rollout_id: RolloutId
    closure: str


@frozen
class StartProbes:
    """Run these probes, each at its interval, until `StopProbes`."""

    rollout_id: RolloutId
    checks: HealthCheckSet


@frozen
class StopProbes:
    """Stop this rollout's probes."""

    rollout_id: RolloutId


@frozen
class WakeSender:
    """Read the journal: it has unsent rows."""


@frozen
class KeepManifestsOf:
    """Remove the cached manifests of all rollouts except these, which are in the journal."""

    rollout_ids: tuple[RolloutId, ...]


@frozen
class ShowRefusal:
    """Tell the control plane why a rollback that is due is not begun; no `reason`: nothing is refused any more."""

    rollout_id: RolloutId
    reason: str | None


Action: TypeAlias = (
    CarryOut
    | WithdrawIntent
    | ShowRefusal
    | LoadChecks
    | StartProbes
    | StopProbes
    | WakeSender
    | KeepManifestsOf
    | EmitMetric
    | EmitLog
)
