"""When a host's silence or its failure has a consequence. Pure; the time is never read here.

`passing_time` asks these for the hosts whose time has come. Nothing else in the planner knows about time.
Source: docs/spec/policy.md, Deadlines; docs/spec/policy.md, Attempts.
"""

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, TypeAlias, assert_never

from attrs import frozen

from nixfleet_proto.fleet import OnDrift
from nixfleet_proto.policy import AtDeadline, Deadline, Retry
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing

GRACE: Final = timedelta(minutes=5)
"""How long after a deadline that the host holds itself to the control plane goes on listening."""
BACKOFF_OVER: Final = "its back-off is over"
_JITTER_STEPS: Final = 1024
_BACKOFF_SECONDS_MAX: Final = 7 * 24 * 60 * 60
# Any back-off that grows is at the most after so many attempts. Powers cost, and drift is restored for ever.
_GROWTHS_MAX: Final = _BACKOFF_SECONDS_MAX.bit_length()


@frozen
class LapseDue:
    """At `at` the host was silent past the deadline of `stage`, and counts by `standing`."""

    at: datetime
    stage: Stage
    standing: Standing


@frozen
class RetryDue:
    """At `at` the back-off of the host is over, and it may make its attempt number `attempt`. reason: for people."""

    at: datetime
    attempt: int
    reason: str = BACKOFF_OVER


Due: TypeAlias = LapseDue | RetryDue


def has_dues(terms: RolloutTerms) -> bool:
    """Return whether any host of a rollout with these terms can ever have a due."""
    restores = terms.on_drift is OnDrift.RESTORE
    return terms.deadlines.is_declared or terms.retry.attempts > 1 or restores


def due_of(
    terms: RolloutTerms,
    rollout: RolloutRecord,
    record: HostRolloutState,
    queued_since: datetime | None,
) -> Due | None:
    """Return what becomes due for a host if nothing happens to it before; `None`: nothing.

    queued_since: since when a dispatch is in the queue that the host did not acknowledge; `None`: none is.
    """
    standing = rollout.standing_of(record.hostname)
    if standing is not Standing.COUNTED and standing is not Standing.LATE:
        return None
    stage = stage_of(record, queued_since)
    if stage is not None:
        return _lapse(terms, record, standing, *stage)
    return _restore(terms, rollout, record) or _retry(terms, rollout, record)


def unfollowed_deadline_of(
    terms: RolloutTerms,
    rollout: RolloutRecord,
    record: HostRolloutState,
    queued_since: datetime | None,
) -> datetime | None:
    """Return the end of a stage of which nothing follows, for a host that counts; `None`: it has none.

    queued_since: as in `due_of`.
    """
    staged = stage_of(record, queued_since)
    if staged is None or rollout.standing_of(record.hostname) is not Standing.COUNTED:
        return None
    deadline = deadline_of(terms, staged[0])
    if deadline is None or deadline.then is not AtDeadline.WAIT:
        return None
    return overdue_at(terms, *staged)


def stage_of(
    record: HostRolloutState, queued_since: datetime | None
) -> tuple[Stage, datetime] | None:
    """Return what the host is at and since when; `None`: it waits for nothing but the planner, or is at rest."""
    if queued_since is not None:
        return Stage.ACK, queued_since
    match record.state:
        case HostState.ACTIVATING:
            return _since(Stage.ACTIVATION, record.dispatch_acked_at)
        case HostState.DEFERRED:
            return _since(Stage.REBOOT, record.deferred_at)
        case HostState.SOAKING:
            return _since(Stage.CONVERGENCE, record.activation_completed_at)
        case HostState.FAILED:
            # The way back is a switch as well.
            return _since(Stage.ACTIVATION, record.failed_at) if record.is_rolling_back else None
        case HostState.PENDING | HostState.CONVERGED | HostState.REVERTED:
            return None
        case _:
            assert_never(record.state)


def deadline_of(terms: RolloutTerms, stage: Stage) -> Deadline | None:
    """Return the deadline of `stage`; `None`: it may take for ever."""
    match stage:
        case Stage.ACK:
            return terms.deadlines.ack
        case Stage.ACTIVATION:
            return terms.deadlines.activation
        case Stage.REBOOT:
            return terms.deadlines.reboot
        case Stage.CONVERGENCE:
            return terms.deadlines.convergence
        case _:
            assert_never(stage)


def overdue_at(terms: RolloutTerms, stage: Stage, since: datetime) -> datetime | None:
    """Return when a host that is at `stage` since `since` is overdue; `None`: never."""
    deadline = deadline_of(terms, stage)
    if deadline is None:
        return None
    grace = timedelta(0) if stage is Stage.ACK else GRACE
    return since + timedelta(minutes=deadline.minutes) + grace


def backoff_of(retry: Retry, hostname: str, attempt: int) -> timedelta:
    """Return how long after the failure of attempt number `attempt` the host may try again.

    Up to a tenth is added, by host and attempt, so that hosts that failed together do not try together.
    """
    seconds = retry.backoff_seconds * retry.factor ** min(attempt - 1, _GROWTHS_MAX)
    digest = sha256(f"{hostname}\0{attempt}".encode()).digest()
    jitter = int.from_bytes(digest[:4]) % _JITTER_STEPS
    return timedelta(seconds=min(seconds, _BACKOFF_SECONDS_MAX)) * (
        1 + jitter / (10 * _JITTER_STEPS)
    )


def _since(stage: Stage, at: datetime | None) -> tuple[Stage, datetime] | None:
    return None if at is None else (stage, at)


def _lapse(
    terms: RolloutTerms,
    record: HostRolloutState,
    standing: Standing,
    stage: Stage,
    since: datetime,
) -> LapseDue | None:
    deadline, at = deadline_of(terms, stage), overdue_at(terms, stage, since)
    if deadline is None or at is None:
        return None
    match deadline.then:
        case AtDeadline.WAIT:
            return None
        case AtDeadline.SKIP:
            # A host that failed has failed, whatever becomes of it.
            lapsed = Standing.LAPSED if record.has_failed else Standing.AWAY
        case AtDeadline.FAIL:
            lapsed = Standing.LAPSED
        case _:
            assert_never(deadline.then)
    return LapseDue(at, stage, Standing.AWAY if standing is Standing.LATE else lapsed)


def _restore(
    terms: RolloutTerms, rollout: RolloutRecord, record: HostRolloutState
) -> RetryDue | None:
    """A host that drifted is given its target back, each time after a longer wait: it may be moved away again."""
    drift = rollout.drifted.get(record.hostname)
    if drift is None or terms.on_drift is not OnDrift.RESTORE:
        return None
    is_ordered = rollout.attempt_of(record.hostname) > record.attempt
    if is_ordered or record.state is not HostState.CONVERGED:
        return None
    wait = backoff_of(terms.retry, record.hostname, record.attempt)
    return RetryDue(drift.since + wait, record.attempt + 1, f"it runs {drift.running}")


def _retry(
    terms: RolloutTerms, rollout: RolloutRecord, record: HostRolloutState
) -> RetryDue | None:
    is_ordered = rollout.attempt_of(record.hostname) > record.attempt
    if is_ordered or record.attempt >= terms.retry.attempts or not record.may_try_again:
        return None
    failed_at = record.reverted_at or record.failed_at
    if not record.has_failed or failed_at is None:
        return None
    wait = backoff_of(terms.retry, record.hostname, record.attempt)
    return RetryDue(failed_at + wait, record.attempt + 1)
