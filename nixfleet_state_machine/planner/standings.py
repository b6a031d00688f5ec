"""Which standing a host gets from what other hosts do, and from what it does itself. Pure.

Source: docs/spec/policy.md, Standings.
"""

from collections.abc import Iterator
from datetime import datetime

from attrs import evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import StandingChanged
from nixfleet_state_machine.rollout.state import (
    RETENTION_MAX,
    RolloutRecord,
    RolloutState,
    Standing,
)

HEARD_AGAIN = "it was heard of again"
REPORTED_AGAIN = "it reported again"


def heard_again(
    view: FleetView, rollout_id: RolloutId, hostname: str, now: datetime
) -> StandingChanged | None:
    """Return the event that is due when a host was heard of that was silent past a deadline; `None`: nothing is.

    A host that has a dispatch in the queue was heard of all the time: only what it reports gives it back. One that
    waits for a host that does not come is skipped: its wave would wait for it without end.
    Raises: UnknownRollout.
    """
    is_gone = view.rollout(rollout_id).standing_of(hostname).is_silent
    if (
        not is_gone
        or view.is_queued(rollout_id, hostname)
        or not view.is_idle(rollout_id, hostname)
    ):
        return None
    event = _given_back(view, rollout_id, hostname, HEARD_AGAIN, now)
    gating = view.terms(rollout_id).gating_hosts(hostname)
    waits_in_vain = any(_never_comes(view, rollout_id, each) for each in gating)
    if event.standing is Standing.COUNTED and waits_in_vain:
        return evolve(event, standing=Standing.SKIPPED)
    return event


def reported_again(
    view: FleetView, rollout_id: RolloutId, hostname: str, now: datetime
) -> StandingChanged | None:
    """Return the event that is due after a fact of a host that was silent or skipped; `None`: nothing is.

    Raises: UnknownRollout.
    """
    if not view.rollout(rollout_id).standing_of(hostname).is_given_back:
        return None
    return _given_back(view, rollout_id, hostname, REPORTED_AGAIN, now)


def skipped_with(
    view: FleetView, rollout_id: RolloutId, hostname: str, now: datetime
) -> StandingChanged | None:
    """Return the event that is due for the hosts that wait for `hostname`, which does not come; `None`: nothing is.

    Edges are not tolerant: who waits for a host that may fail and did, or that nobody waits for, is skipped, and so is
    who waits for that one.
    Raises: UnknownRollout.
    """
    state = view.rollout(rollout_id).state
    if state is not RolloutState.ACTIVE and state is not RolloutState.CONVERGING:
        return None
    if not view.terms(rollout_id).gated_hosts(hostname) or not _never_comes(
        view, rollout_id, hostname
    ):
        return None
    skipped = tuple(sorted(set(_waiting_for(view, rollout_id, hostname))))
    if not skipped:
        return None
    reason = f"host {hostname}, which it waits for, does not come"
    return StandingChanged(rollout_id, skipped, Standing.SKIPPED, reason, now)


def skips_due(view: FleetView, rollout_id: RolloutId, now: datetime) -> Iterator[StandingChanged]:
    """Yield, one after the other, the events that are due when a rollout goes on that was halted.

    Meanwhile hosts may have stopped coming that others wait for. Each is to be applied before the next is asked for.
    O(hosts with edges). Raises: UnknownRollout.
    """
    for hostname in sorted(view.terms(rollout_id).gating):
        due = skipped_with(view, rollout_id, hostname, now)
        if due is not None:
            yield due


def late_or_counted(view: FleetView, rollout_id: RolloutId, hostname: str) -> Standing:
    """Return the standing of a host that comes now: late if its wave was done without it.

    Raises: UnknownRollout.
    """
    is_done = is_done_without(view.rollout(rollout_id), view.terms(rollout_id), hostname)
    return Standing.LATE if is_done else Standing.COUNTED


def is_done_without(record: RolloutRecord, terms: RolloutTerms, hostname: str) -> bool:
    """Return whether the wave of a host that comes now is done, or the whole rollout.

    The current wave is done as well once the guards of the next one are asked.
    """
    wave = terms.wave_of.get(hostname)
    first_open = record.current_wave + (record.guarded_since is not None)
    return record.state is RolloutState.TERMINAL or (wave is not None and wave < first_open)


def may_be_pruned(view: FleetView, rollout_id: RolloutId, now: datetime) -> bool:
    """Return whether a rollout whose retention is over may be forgotten: no late host needs it, or it is too old.

    Only a Terminal rollout that its channel still names serves hosts. O(hosts with a standing).
    Raises: UnknownRollout.
    """
    record = view.rollout(rollout_id)
    offered = view.offers.get(record.channel)
    if record.terminal_at is None or record.state is not RolloutState.TERMINAL:
        return True
    if offered is None or offered.rollout_id != rollout_id:
        return True
    return now - record.terminal_at >= RETENTION_MAX or not _has_outstanding(view, rollout_id)


def _has_outstanding(view: FleetView, rollout_id: RolloutId) -> bool:
    return any(
        (standing.is_given_back or standing is Standing.LATE)
        and not _is_at_rest(view, rollout_id, host)
        for host, standing in view.rollout(rollout_id).standings.items()
    )


def _is_at_rest(view: FleetView, rollout_id: RolloutId, hostname: str) -> bool:
    record = view.host(rollout_id, hostname)
    attempt = view.rollout(rollout_id).attempt_of(hostname)
    return record is not None and record.may_try_again and attempt <= record.attempt


def _given_back(
    view: FleetView, rollout_id: RolloutId, hostname: str, reason: str, now: datetime
) -> StandingChanged:
    standing = late_or_counted(view, rollout_id, hostname)
    return StandingChanged(rollout_id, (hostname,), standing, reason, now)


def _never_comes(view: FleetView, rollout_id: RolloutId, hostname: str) -> bool:
    terms = view.terms(rollout_id)
    standing = view.rollout(rollout_id).standing_of(hostname)
    record = view.host(rollout_id, hostname)
    if record is not None and record.state.is_ordering_eligible:
        return False
    if standing.is_silent or standing is Standing.SKIPPED:
        return True
    if record is None or not record.state.is_failure:
        return False  # It acts, at its last attempt perhaps.
    attempts = max(terms.retry.attempts, view.rollout(rollout_id).attempt_of(hostname))
    is_tolerated = standing is Standing.COUNTED and terms.is_tolerant_of(hostname)
    return is_tolerated and record.attempt >= attempts


def _waiting_for(view: FleetView, rollout_id: RolloutId, hostname: str) -> Iterator[str]:
    """Yield the hosts that count and wait for `hostname`, directly or not."""
    terms, rollout = view.terms(rollout_id), view.rollout(rollout_id)
    seen, ahead = {hostname}, [hostname]
    while ahead:
        for gated in terms.gated_hosts(ahead.pop()):
            counts = rollout.standing_of(gated) is Standing.COUNTED
            if gated not in seen and counts and view.is_waiting(rollout_id, gated):
                seen.add(gated)
                ahead.append(gated)
                yield gated
