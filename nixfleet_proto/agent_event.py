"""The fifteen facts: what can happen on a host, in the past tense, with the agent's own timestamp.

They are the payload of the wire and the input of the host machine. Defined here and nowhere else; a new
kind of fact goes into `AgentEvent`, and the type checkers then name every place that must learn of it.
Every fact has `seq`: from 1, strictly increasing per (hostname, rollout). Times are aware UTC.
Source: docs/spec/host-machine.md, Facts.
"""

from datetime import datetime
from typing import TypeAlias

from attrs import field, frozen

from nixfleet_proto.checked import WordEnum, checked


class ProbeMode(WordEnum):
    """The effect of a probe's result: only `ENFORCE` gates convergence and waves."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    DISABLED = "disabled"


class ProbeStatus(WordEnum):
    """There is no "unknown": a probe that cannot run has failed."""

    PASS = "pass"
    FAIL = "fail"


class OnHealthFailure(WordEnum):
    """What happens when a host fails: the rollout stops, or the host rolls back first and then it stops."""

    HALT = "halt"
    ROLLBACK_AND_HALT = "rollback-and-halt"


@frozen
@checked
class ProbeTopologyEntry:
    """One probe that the agent found in the closure and will run."""

    probe_name: str
    kind: str
    mode: ProbeMode


@frozen
@checked
class ProbeSubResult:
    """The result of one control inside a probe that checks several (`evidence`)."""

    control_id: str
    status: ProbeStatus
    framework: str
    article: str | None = None
    effective_mode: ProbeMode = ProbeMode.ENFORCE
    override_reason: str | None = None


@frozen
@checked
class DispatchAck:
    """The agent accepted the dispatch; what was running then is its rollback target.

    attempt: which one this is of the host at this closure, from 2; `None` is the first.
    """

    current_closure_at_dispatch: str
    received_at: datetime
    seq: int
    attempt: int | None = None

    @property
    def attempt_number(self) -> int:
        """The attempt as a number, from 1."""
        return self.attempt or 1


@frozen
@checked
class ActivationStarted:
    """The switch to the target closure was started, by `switch_method`."""

    started_at: datetime
    switch_method: str
    seq: int


@frozen
@checked
class ActivationCompleted:
    """The switch was done; `observed_current_closure` is what runs now. failed_units: services that failed in it."""

    observed_current_closure: str
    exit_code: int
    completed_at: datetime
    seq: int
    failed_units: tuple[str, ...] | None = None


@frozen
@checked
class ActivationFailed:
    """The switch failed; what runs now is not known from this."""

    exit_code: int
    stderr_tail: str
    failed_at: datetime
    seq: int


@frozen
@checked
class ActivationDeferred:
    """The closure is set but `component` cannot be swapped live; it takes effect at a reboot."""

    component: str
    deferred_at: datetime
    seq: int


@frozen
@checked
class ProbeTopologyDeclared:
    """Every probe of the new closure, declared (even when there is none) before the first result."""

    probes: tuple[ProbeTopologyEntry, ...]
    declared_at: datetime
    seq: int


@frozen
@checked
class ProbeObservedFirst:
    """A probe reported for the first time since the activation."""

    probe_name: str
    mode: ProbeMode
    observed_at: datetime
    seq: int


@frozen
@checked
class ProbeResult:
    """One run of a probe. `failure_reason` is cut to 512 characters by the agent that runs the probe."""

    probe_name: str
    mode: ProbeMode
    status: ProbeStatus
    observed_at: datetime
    failure_reason: str | None = None
    sub_results: tuple[ProbeSubResult, ...] | None = None
    # Last on the wire, as in every fact; required all the same.
    seq: int = field(kw_only=True)


@frozen
@checked
class ProbeFailureFirst:
    """A probe failed for the first time in this rollout; kept for the record."""

    probe_name: str
    mode: ProbeMode
    first_failed_at: datetime
    seq: int


@frozen
@checked
class Failed:
    """Enforce probes failed for a sustained time; `policy_applied` is the manifest's."""

    failed_at: datetime
    sustained_duration_secs: int
    failing_probes: tuple[str, ...]
    policy_applied: OnHealthFailure
    seq: int


@frozen
@checked
class RollbackComplete:
    """A rollback ran to its end; only exit code 0 means that it worked.

    failure_reason: why it did not, or which services failed in it.
    """

    reverted_to_closure: str
    exit_code: int
    completed_at: datetime
    seq: int
    failure_reason: str | None = None


@frozen
@checked
class Converged:
    """Soak elapsed, enforce probes pass, and the running closure is the target."""

    converged_at: datetime
    current_closure: str
    seq: int


@frozen
@checked
class Regressed:
    """A Converged host's enforce probes failed for a sustained time, while its rollout went on."""

    regressed_at: datetime
    sustained_duration_secs: int
    failing_probes: tuple[str, ...]
    policy_applied: OnHealthFailure
    seq: int


@frozen
@checked
class Recalled:
    """An operator's warrant that the host verified had it leave the target; `order_id` is the warrant's."""

    order_id: str
    recalled_at: datetime
    seq: int


@frozen
@checked
class Postponed:
    """The host's own lock says that it does not begin the dispatch now. The lock is an answer that expires.

    reason: the lock's own words, or what was wrong with the lock; at most 512 characters by the agent that asked.
    until: when the agent asks again, at the latest. With `postponed_at` as its end the lock is over.
    """

    postponed_at: datetime
    reason: str
    until: datetime
    seq: int

    @property
    def is_over(self) -> bool:
        """Whether nothing is postponed any more."""
        return self.until <= self.postponed_at


AgentEvent: TypeAlias = (
    DispatchAck
    | ActivationStarted
    | ActivationCompleted
    | ActivationFailed
    | ActivationDeferred
    | ProbeTopologyDeclared
    | ProbeObservedFirst
    | ProbeResult
    | ProbeFailureFirst
    | Failed
    | RollbackComplete
    | Converged
    | Regressed
    | Recalled
    | Postponed
)
"""What an agent can report. The wire's `kind` is the class name."""
