"""How the waves of a rollout stand, and which hosts hold it up by their silence: for status and metrics alone.

Decides nothing. Waves are read from the counts of the view, O(waves); what names hosts is O(hosts), and says so.
Source: docs/spec/policy.md, The verdict of a wave; docs/spec/policy.md, Deadlines.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.deadlines import overdue_at, stage_of
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.verdict import WaveVerdict, verdict_of
from nixfleet_state_machine.rollout.event import Stage
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing

PATIENCE: Final = timedelta(minutes=15)
"""How long a stage without a deadline may take before its host is shown."""


class WaveState(WordEnum):
    """The verdict of a wave as it is shown; completes "the wave is …".

    WAITING: it has not begun. HALTED: it would go on, and its rollout was halted or aborted.
    """

    WAITING = "waiting"
    GOING = "going"
    HALTED = "halted"
    DONE = "done"
    BROKEN = "broken"


@frozen
@checked
class WaveStatus:
    """Numbers of hosts of one wave. wave: `None`: those in no wave.

    total: those that count. failed: of them, also those that lapsed or try again. allowed: how many may fail.
    absent: those that do not count because they do not come.
    """

    wave: int | None
    total: int
    converged: int
    failed: int
    allowed: int
    absent: int
    verdict: WaveState


@frozen
@checked
class OverdueHost:
    """A host that is at `stage` for longer than it should be, and of which nothing follows by itself.

    overdue_at: when its deadline was; `None`: it has none.
    """

    rollout_id: RolloutId
    hostname: str
    stage: Stage
    since: datetime
    overdue_at: datetime | None


def wave_statuses(view: FleetView, rollout_id: RolloutId) -> tuple[WaveStatus, ...]:
    """Return how each wave of an open rollout stands, in order; hosts in no wave come last. O(waves).

    Raises: UnknownRollout.
    """
    waves = view.waves_of(rollout_id)
    staged = sorted(wave for wave in waves if wave is not None)
    unstaged = [None] if None in waves else []
    return tuple(_wave(view, rollout_id, wave) for wave in (*staged, *unstaged))


def _wave(view: FleetView, rollout_id: RolloutId, wave: int | None) -> WaveStatus:
    tally = view.tally_of_wave(rollout_id, wave)
    return WaveStatus(
        wave,
        tally.total,
        tally.converged,
        tally.failed,
        view.terms(rollout_id).allowed_failures(wave),
        tally.absent,
        _verdict(view, rollout_id, wave),
    )


def _verdict(view: FleetView, rollout_id: RolloutId, wave: int | None) -> WaveState:
    verdict = verdict_of(view, rollout_id, wave)
    if verdict is not WaveVerdict.GOING:
        return WaveState[verdict.name]
    rollout = view.rollout(rollout_id)
    if wave is None or wave > rollout.current_wave:
        return WaveState.WAITING
    return WaveState.HALTED if rollout.state.is_halted else WaveState.GOING


def standing_counts(record: RolloutRecord) -> Mapping[Standing, int]:
    """Return how many hosts have each standing other than counted. O(hosts with one)."""
    counts = Counter(record.standings.values())
    return {standing: counts[standing] for standing in Standing if counts[standing]}


def tolerated_hosts(view: FleetView, rollout_id: RolloutId, wave: int | None) -> tuple[str, ...]:
    """Return the hosts that count as failed in a wave that may have failed hosts, by name. O(hosts).

    Raises: UnknownRollout.
    """
    terms, rollout = view.terms(rollout_id), view.rollout(rollout_id)
    if not terms.allowed_failures(wave):
        return ()
    return tuple(
        record.hostname
        for record in view.hosts_of(rollout_id)
        if terms.wave_of.get(record.hostname) == wave and _counts_as_failed(rollout, record)
    )


def _counts_as_failed(rollout: RolloutRecord, record: HostRolloutState) -> bool:
    standing = rollout.standing_of(record.hostname)
    is_failed = standing is Standing.COUNTED and record.has_failed
    return is_failed or standing is Standing.LAPSED


def overdue_hosts(view: FleetView, now: datetime) -> Iterator[OverdueHost]:
    """Yield the hosts of live rollouts whose silence ends by nothing but an operator, by rollout and name. O(hosts).

    Those past a deadline of which nothing follows, and those without one that take longer than PATIENCE: of a soak,
    after its earliest end.
    """
    for rollout_id in view.live_rollouts():
        rollout = view.rollout(rollout_id)
        for record in view.hosts_of(rollout_id):
            if rollout.standing_of(record.hostname) is Standing.COUNTED:
                overdue = _overdue(view, record)
                if overdue is not None and _due_at(record, overdue) <= now:
                    yield overdue


def overdue_by_stage(view: FleetView, now: datetime) -> Mapping[Stage, int]:
    """Return how many hosts are past a deadline of which nothing follows, by its stage. O(those hosts)."""
    found = (_overdue(view, record) for record in view.overdue(now))
    return Counter(each.stage for each in found if each is not None)


def _overdue(view: FleetView, record: HostRolloutState) -> OverdueHost | None:
    rollout_id, hostname = record.rollout_id, record.hostname
    staged = stage_of(record, view.unacknowledged_since(record))
    if staged is None:
        return None
    at = overdue_at(view.terms(rollout_id), *staged)
    return OverdueHost(rollout_id, hostname, *staged, at)


def _due_at(record: HostRolloutState, overdue: OverdueHost) -> datetime:
    if overdue.overdue_at is not None:
        # One of which something follows is lapsed by the next tick, and is here until then.
        return overdue.overdue_at
    soak_ends_at = soak_end_of(record) if overdue.stage is Stage.CONVERGENCE else None
    return max(overdue.since, soak_ends_at or overdue.since) + PATIENCE
