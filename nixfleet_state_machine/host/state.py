"""The record of one host in one rollout. Frozen; only `step` makes a successor.

Two exceptions, both of the control plane before a host has said anything: `pending` opens the record and
`dispatched` notes the dispatch. A third is its mirror's: the number of a fact that it cannot take. Timestamps are the
agent's own, except `dispatched_at` and `soak_due_at`.
Source: docs/spec/host-machine.md, State record.
"""

from datetime import datetime
from typing import Self, assert_never

from attrs import evolve, field, frozen

from nixfleet_proto.agent_event import (
    OnHealthFailure,
    ProbeMode,
    ProbeStatus,
    ProbeTopologyEntry,
)
from nixfleet_proto.checked import WordEnum, checked, not_empty, same
from nixfleet_proto.errors import InvalidValue, ValueProblem
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId


class HostState(WordEnum):
    """Completes "the host is …". The values are the wire's."""

    PENDING = "Pending"
    ACTIVATING = "Activating"
    DEFERRED = "Deferred"
    SOAKING = "Soaking"
    CONVERGED = "Converged"
    FAILED = "Failed"
    REVERTED = "Reverted"

    @property
    def is_ordering_eligible(self) -> bool:
        """Whether hosts and waves that wait for this one may proceed."""
        return self is HostState.CONVERGED or self is HostState.DEFERRED

    @property
    def is_in_flight(self) -> bool:
        """Whether the host counts against a disruption budget by its state alone."""
        return self is HostState.ACTIVATING or self is HostState.SOAKING

    @property
    def is_failure(self) -> bool:
        """Whether the last attempt ended in a failure, rolled back or not."""
        return self is HostState.FAILED or self is HostState.REVERTED


@frozen
@checked
class ProbeRecord:
    """The latest word on one probe. `failing_since`: start of the present unbroken run of Fail."""

    status: ProbeStatus
    mode: ProbeMode
    last_observed_at: datetime
    last_pass_at: datetime | None = None
    failure_reason: str | None = None
    failing_since: datetime | None = None


@frozen
@checked
class HostRolloutState:
    """Everything known about one host in one rollout.

    `declared_probes` is `None` until the topology was declared since the last activation. `failed_at` and what follows
    from a failure are kept until a later attempt succeeds.
    """

    rollout_id: RolloutId
    hostname: str
    channel: str
    state: HostState
    target_closure: str
    current_closure_at_dispatch: str | None = None
    current_closure: str | None = None
    reverted_to: str | None = None
    dispatched_at: datetime | None = None
    dispatch_acked_at: datetime | None = None
    activation_started_at: datetime | None = None
    activation_completed_at: datetime | None = None
    activation_failed_at: datetime | None = None
    probe_observed_first_at: datetime | None = None
    probe_failure_first_at: datetime | None = None
    soak_due_at: datetime | None = None
    converged_at: datetime | None = None
    failed_at: datetime | None = None
    policy_applied: OnHealthFailure | None = None
    reverted_at: datetime | None = None
    probes: FrozenMap[str, ProbeRecord] = field(factory=lambda: FrozenMap[str, ProbeRecord]())
    last_event_seq: int = 0
    declared_probes: tuple[ProbeTopologyEntry, ...] | None = None
    attempt: int = 1
    deferred_at: datetime | None = None

    @property
    def may_try_again(self) -> bool:
        """Whether an acknowledgement of the next attempt applies: no switch and no rollback is under way.

        A host that failed and was to roll back is not done before it is Reverted.
        """
        match self.state:
            case HostState.CONVERGED | HostState.REVERTED:
                return True
            case HostState.FAILED:
                return not self.is_rolling_back
            case HostState.PENDING | HostState.ACTIVATING | HostState.DEFERRED | HostState.SOAKING:
                return False
            case _:
                assert_never(self.state)

    @property
    def is_rolling_back(self) -> bool:
        """Whether the host failed and has a rollback to finish, or to fail at."""
        return (
            self.state is HostState.FAILED
            and self.policy_applied is OnHealthFailure.ROLLBACK_AND_HALT
            and self.current_closure_at_dispatch not in (None, self.target_closure)
        )

    @property
    def has_failed(self) -> bool:
        """Whether an attempt failed and none has succeeded since."""
        match self.state:
            case HostState.FAILED | HostState.REVERTED:
                return True
            case HostState.CONVERGED | HostState.DEFERRED:
                return False
            case HostState.PENDING | HostState.ACTIVATING | HostState.SOAKING:
                return self.failed_at is not None
            case _:
                assert_never(self.state)

    @classmethod
    def pending(
        cls,
        rollout_id: RolloutId,
        hostname: str,
        channel: str,
        target_closure: str,
        dispatched_at: datetime | None,
        soak_due_at: datetime | None,
    ) -> Self:
        """Return the record of a host that has not acknowledged anything in this rollout.

        dispatched_at, soak_due_at: `None` while no dispatch is queued for it.
        Raises: InvalidValue, also for an empty host name and a channel other than the rollout id's.
        """
        made = cls(
            rollout_id=rollout_id,
            hostname=hostname,
            channel=channel,
            state=HostState.PENDING,
            target_closure=target_closure,
            dispatched_at=dispatched_at,
            soak_due_at=soak_due_at,
        )
        # Here, and not at every construction: what was stored is read as it is.
        problems = (
            *not_empty("hostname", hostname),
            *same("channel", channel, made.rollout_id.channel, "rollout_id has it"),
        )
        if problems:
            raise InvalidValue("HostRolloutState", problems)
        return made

    def dispatched(self, at: datetime | None, soak_due_at: datetime | None) -> Self:
        """Return this record with its dispatch noted, or withdrawn (`None`, `None`).

        Raises: InvalidValue, unless it is Pending or may try again.
        """
        if self.state is not HostState.PENDING and not self.may_try_again:
            expected = "Pending, or one that may try again"
            problem = ValueProblem("state", expected, self.state.value)
            raise InvalidValue("HostRolloutState.dispatched", (problem,))
        return evolve(self, dispatched_at=at, soak_due_at=soak_due_at)
