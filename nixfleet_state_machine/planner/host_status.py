"""Where one host stands in its rollouts, what it waits for, and until when: for `explain` alone.

Decides nothing. It reads records, gates and deadlines as the planner does. O(hosts), which a plan must not be.
Source: docs/spec/planner.md, Explanations.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import assert_never

from attrs import evolve, frozen

from nixfleet_proto.checked import WordEnum, checked, require_arguments
from nixfleet_proto.fleet import FleetResolved, OnDrift
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import AtDeadline
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import Gate, GateBlock
from nixfleet_state_machine.planner.deadlines import (
    Due,
    LapseDue,
    RetryDue,
    deadline_of,
    due_of,
    overdue_at,
    stage_of,
)
from nixfleet_state_machine.planner.errors import UnknownHost
from nixfleet_state_machine.planner.gates import Quarantines
from nixfleet_state_machine.planner.guards.states import broken_reason, broken_wave
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.plan import explain
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing

_NO_AUTHORS: FrozenMap[RolloutId, str] = FrozenMap()


class WaitsFor(WordEnum):
    """What a host waits for, of all that it may be at. The values are the wire's.

    NOTHING: it is at rest, and nothing is planned for it. DISPATCH: no gate holds it, and it is dispatched next.
    GATES: they hold it. ACKNOWLEDGEMENT: its dispatch is queued. ACTIVATION, REBOOT, SOAK, ROLLBACK: it acts.
    BACKOFF: it failed or drifted, and tries again. CONTACT: it was silent past a deadline, and is served once it is
    heard of.
    """

    NOTHING = "nothing"
    DISPATCH = "dispatch"
    GATES = "gates"
    ACKNOWLEDGEMENT = "acknowledgement"
    ACTIVATION = "activation"
    REBOOT = "reboot"
    SOAK = "soak"
    ROLLBACK = "rollback"
    BACKOFF = "back-off"
    CONTACT = "contact"


class Outside(WordEnum):
    """Why a host is in no rollout that is served. The values are the wire's.

    UNDECLARED: no fleet in force declares it. HOST_DISABLED, CHANNEL_DISABLED: declared so. UNRELEASED: nothing is in
    force for its channel. UNNAMED: the release of its channel does not name it. UNOPENED: its rollout is not open yet.
    DONE: its rollout ended, and the records were pruned.
    LEFT: an amended release does not name it any more. LOST: the control plane lost what its rollout runs under.
    """

    UNDECLARED = "undeclared"
    HOST_DISABLED = "host-disabled"
    CHANNEL_DISABLED = "channel-disabled"
    UNRELEASED = "unreleased"
    UNNAMED = "unnamed"
    UNOPENED = "unopened"
    DONE = "done"
    LEFT = "left"
    LOST = "lost"


@frozen
@checked
class StageDeadline:
    """Until when a stage may take, and what follows. at: the control plane's, with its grace."""

    stage: Stage
    at: datetime
    then: AtDeadline


@frozen
@checked
class HostDrift:
    """A host that converged runs another closure: which, and since when. then: what its channel does about it."""

    running: str
    since: datetime
    then: OnDrift


@frozen
@checked
class HostInRollout:
    """Where a host stands in one rollout.

    attempt: the number of its attempt, `attempts`: how many it may make. wave: `None`: it is in none. since: when what
    it is at began; `None`: not known. gates: all that hold it. deadline: of the stage that it is at.
    soak_ends_at: the earliest end. retry_at: when its back-off is over.
    is_overdue: the deadline has passed, and nothing follows from that. drift: `None`: it has not drifted.
    until: the earliest time to come at which something may change by itself; `None`: there is none.
    """

    rollout_id: RolloutId
    rollout_state: RolloutState
    state: HostState
    standing: Standing
    attempt: int
    attempts: int
    wave: int | None
    last_wave: int
    since: datetime | None
    waits_for: WaitsFor
    gates: tuple[GateBlock, ...] = ()
    deadline: StageDeadline | None = None
    soak_ends_at: datetime | None = None
    retry_at: datetime | None = None
    is_overdue: bool = False
    until: datetime | None = None
    drift: HostDrift | None = None


@frozen
@checked
class HostInFleet:
    """Where a host stands. channel: of the newest fleet that names it. outside: why it is in none of `rollouts`.

    left: the rollouts that are served and that it left, by an amended release.
    """

    hostname: str
    channel: str | None
    rollouts: tuple[HostInRollout, ...]
    outside: Outside | None = None
    left: tuple[RolloutId, ...] = ()

    @property
    def blocks(self) -> Mapping[RolloutId, tuple[GateBlock, ...]]:
        """All gates that hold the host, for each rollout in which it waits for a dispatch."""
        waiting = (WaitsFor.GATES, WaitsFor.DISPATCH)
        return {it.rollout_id: it.gates for it in self.rollouts if it.waits_for in waiting}


def host_status(
    view: FleetView,
    quarantines: Quarantines,
    fleets: Sequence[FleetResolved],
    hostname: str,
    now: datetime,
    authors: Mapping[RolloutId, str] = _NO_AUTHORS,
) -> HostInFleet:
    """Return where `hostname` stands in each rollout that is served, or why it is in none.

    fleets: those in force, the newest first. now: aware UTC. authors: as for `explain`.
    Raises: UnknownHost, for a host that no fleet and no open rollout names. InvalidValue.
    """
    require_arguments("host_status", hostname=(hostname, str), now=(now, datetime))
    rollouts = tuple(_in_rollouts(view, quarantines, hostname, now, authors))
    left = tuple(
        each
        for each in view.served_rollouts()
        if view.rollout(each).standing_of(hostname) is Standing.LEFT
    )
    fleet = next((each for each in fleets if hostname in each.hosts), None)
    if fleet is None and not rollouts and not left:
        _require_named(view, fleets, hostname)
    channel = None if fleet is None else fleet.hosts[hostname].channel
    outside = None if rollouts else _outside(view, fleet, hostname, has_left=bool(left))
    return HostInFleet(hostname, channel, rollouts, outside, left)


def _require_named(view: FleetView, fleets: Sequence[FleetResolved], hostname: str) -> None:
    try:
        view.require_host(hostname)
    except UnknownHost as error:
        declared = {host for fleet in fleets for host in fleet.hosts}
        raise UnknownHost(hostname, None, {*error.hosts, *declared}) from None


def _outside(
    view: FleetView, fleet: FleetResolved | None, hostname: str, *, has_left: bool
) -> Outside:
    if fleet is None:
        return Outside.LEFT if has_left else Outside.UNDECLARED
    host = fleet.hosts[hostname]
    if not host.enabled:
        return Outside.HOST_DISABLED
    channel = fleet.channels.get(host.channel)
    if channel is not None and not channel.enabled:
        return Outside.CHANNEL_DISABLED
    if view.lost_rollouts(host.channel):
        return Outside.LOST
    offered = view.offers.get(host.channel)
    if offered is None:
        return Outside.UNRELEASED
    if hostname not in offered.targets:
        return Outside.LEFT if has_left else Outside.UNNAMED
    record = view.rollouts.get(offered.rollout_id)
    return Outside.UNOPENED if record is None else Outside.DONE


def _in_rollouts(
    view: FleetView,
    quarantines: Quarantines,
    hostname: str,
    now: datetime,
    authors: Mapping[RolloutId, str],
) -> Iterator[HostInRollout]:
    named = [
        (rollout_id, record)
        for rollout_id in view.served_rollouts()
        if (record := view.host(rollout_id, hostname)) is not None
    ]
    held: Mapping[RolloutId, tuple[GateBlock, ...]] = {}
    if any(view.is_waiting(rollout_id, hostname) for rollout_id, _ in named):
        held = explain(view, quarantines, hostname, authors)
    for rollout_id, record in named:
        gates = held.get(rollout_id)
        if gates is not None:
            gates = tuple(_with_denial(view, rollout_id, block) for block in gates)
        yield _in_rollout(view, record, gates, now)


def _with_denial(view: FleetView, rollout_id: RolloutId, block: GateBlock) -> GateBlock:
    """Return the block of a halted rollout with the guard that halted it, and why, if one did."""
    if block.gate is not Gate.ROLLOUT_HALTED:
        return block
    guarded = broken_wave(view.rollout(rollout_id), view.terms(rollout_id))
    if guarded is None or guarded.broken is None:
        return block
    why = f"wave {guarded.wave}, {broken_reason(guarded.broken)}"
    return evolve(block, detail=f"{block.detail}: {why}")


def _in_rollout(
    view: FleetView,
    record: HostRolloutState,
    gates: tuple[GateBlock, ...] | None,
    now: datetime,
) -> HostInRollout:
    """gates: that hold it; `None`: it waits for no dispatch."""
    rollout_id, hostname = record.rollout_id, record.hostname
    rollout, terms = view.rollout(rollout_id), view.terms(rollout_id)
    standing = rollout.standing_of(hostname)
    queued_since = view.unacknowledged_since(record)
    staged = stage_of(record, queued_since)
    due = due_of(terms, rollout, record, view.queued_since(rollout_id, hostname))
    waits_for = _waits_for(standing, gates, staged and staged[0], record, due)
    deadline = None
    if staged is not None and not standing.is_silent:
        declared, at = deadline_of(terms, staged[0]), overdue_at(terms, *staged)
        if declared is not None and at is not None:
            deadline = StageDeadline(staged[0], at, declared.then)
    soak_ends_at = soak_end_of(record) if waits_for is WaitsFor.SOAK else None
    retry_at = due.at if isinstance(due, RetryDue) else None
    drift = rollout.drifted.get(hostname)
    # While the rollout is halted or aborted no gate that ends by itself changes anything.
    is_halted = any(block.gate is Gate.ROLLOUT_HALTED for block in gates or ())
    ends = (block.until for block in (() if is_halted else gates or ()))
    ahead = (soak_ends_at, None if deadline is None else deadline.at, retry_at, *ends)
    return HostInRollout(
        rollout_id=rollout_id,
        rollout_state=rollout.state,
        state=record.state,
        standing=standing,
        attempt=max(record.attempt, rollout.attempt_of(hostname)),
        attempts=max(terms.retry.attempts, rollout.attempt_of(hostname), record.attempt),
        wave=terms.wave_of.get(hostname),
        last_wave=terms.last_wave,
        since=_since(rollout, record, queued_since),
        waits_for=waits_for,
        gates=gates or (),
        deadline=deadline,
        soak_ends_at=soak_ends_at,
        retry_at=retry_at,
        is_overdue=deadline is not None and deadline.at <= now,
        until=min((at for at in ahead if at is not None and at > now), default=None),
        drift=None if drift is None else HostDrift(drift.running, drift.since, terms.on_drift),
    )


def _waits_for(
    standing: Standing,
    gates: tuple[GateBlock, ...] | None,
    stage: Stage | None,
    record: HostRolloutState,
    due: Due | None,
) -> WaitsFor:
    if standing.is_silent:
        return WaitsFor.CONTACT
    if gates is not None:
        return WaitsFor.GATES if gates else WaitsFor.DISPATCH
    match stage:
        case Stage.ACK:
            return WaitsFor.ACKNOWLEDGEMENT
        case Stage.ACTIVATION:
            return WaitsFor.ROLLBACK if record.is_rolling_back else WaitsFor.ACTIVATION
        case Stage.REBOOT:
            return WaitsFor.REBOOT
        case Stage.CONVERGENCE:
            return WaitsFor.SOAK
        case None:
            pass
        case _:
            assert_never(stage)
    match due:
        case RetryDue():
            return WaitsFor.BACKOFF
        case LapseDue() | None:
            return WaitsFor.NOTHING
        case _:
            assert_never(due)


def _since(
    rollout: RolloutRecord, record: HostRolloutState, queued_since: datetime | None
) -> datetime | None:
    """Return when what the host is at began: by its own times, and by the queue for a dispatch."""
    if queued_since is not None:
        return queued_since
    match record.state:
        case HostState.PENDING:
            return rollout.opened_at
        case HostState.ACTIVATING:
            return record.activation_started_at or record.dispatch_acked_at
        case HostState.DEFERRED:
            return record.deferred_at
        case HostState.SOAKING:
            return record.activation_completed_at
        case HostState.CONVERGED:
            return record.converged_at
        case HostState.FAILED:
            return record.failed_at
        case HostState.REVERTED:
            return record.reverted_at
        case _:
            assert_never(record.state)
