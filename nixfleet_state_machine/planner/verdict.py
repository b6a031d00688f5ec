"""The verdict of a wave: whether it goes on, is done or is broken. One pure function, and its readings from a view.

It replaces "the first failure halts" and "everybody converged". Where no host may fail it is both.
Source: docs/spec/policy.md, The verdict of a wave.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum, auto

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.tally import ABSENT, NOBODY, Tally
from nixfleet_state_machine.rollout.event import WaveBroken
from nixfleet_state_machine.rollout.state import RolloutState


class WaveVerdict(Enum):
    """Completes "the wave is …"; `GOING` is going on."""

    GOING = auto()
    DONE = auto()
    BROKEN = auto()


def wave_verdict(
    total: int, succeeded: int, failed: int, allowed: int, absent: int = 0
) -> WaveVerdict:
    """Return the verdict of a wave with these numbers of hosts.

    total: those that count. succeeded, failed: of them. allowed: how many may fail. absent: those that do not count
    because they do not come. Hosts that come to nothing are no evidence: a wave with absent hosts, in which none
    succeeded, is broken and not done. A wave that operators excused as a whole is done.
    """
    if failed > allowed:
        return WaveVerdict.BROKEN
    if succeeded + failed < total:
        return WaveVerdict.GOING
    if succeeded or total + absent == 0:
        return WaveVerdict.DONE
    return WaveVerdict.BROKEN


def _eligible(tally: Tally) -> int:
    return tally.eligible


def verdict_of(
    view: FleetView,
    rollout_id: RolloutId,
    wave: int | None,
    succeeded: Callable[[Tally], int] = _eligible,
) -> WaveVerdict:
    """Return the verdict of a wave. wave: `None`: the hosts in no wave.

    succeeded: which number of its tally; by default the hosts that are Converged or Deferred.
    Raises: UnknownRollout.
    """
    return _judged(view, rollout_id, wave, view.tally_of_wave(rollout_id, wave), succeeded)


def waves_broken_without(
    view: FleetView, rollout_id: RolloutId, hosts: Iterable[str]
) -> tuple[int, ...]:
    """Return the waves that are not broken, and would be if these hosts did not come. O(hosts).

    Raises: UnknownRollout.
    """
    without = _tallies_with(view, rollout_id, hosts, ABSENT)
    return tuple(
        wave
        for wave, tally in sorted(without.items())
        if _judged(view, rollout_id, wave, tally) is WaveVerdict.BROKEN
        and verdict_of(view, rollout_id, wave) is not WaveVerdict.BROKEN
    )


def waves_without(
    view: FleetView, rollout_id: RolloutId, excused: Iterable[str]
) -> tuple[int, ...]:
    """Return the waves of which nobody comes, once these hosts are excused besides. O(hosts excused + waves).

    Raises: UnknownRollout.
    """
    staged = [wave for wave in view.waves_of(rollout_id) if wave is not None]
    tallies = {wave: view.tally_of_wave(rollout_id, wave) for wave in staged}
    tallies |= _tallies_with(view, rollout_id, excused, NOBODY)
    return tuple(
        wave for wave, tally in sorted(tallies.items()) if tally.absent and not tally.total
    )


def _judged(
    view: FleetView,
    rollout_id: RolloutId,
    wave: int | None,
    tally: Tally,
    succeeded: Callable[[Tally], int] = _eligible,
) -> WaveVerdict:
    """Return the verdict of a wave whose hosts count as `tally`."""
    allowed = view.terms(rollout_id).allowed_failures(wave)
    # An operator may have gone on without the evidence of hosts that do not come.
    absent = 0 if wave in view.rollout(rollout_id).cleared_waves else tally.absent
    return wave_verdict(tally.total, succeeded(tally), tally.failed, allowed, absent)


def _tallies_with(
    view: FleetView, rollout_id: RolloutId, hosts: Iterable[str], part: Tally
) -> dict[int, Tally]:
    """Return the tallies of the waves of `hosts` if each of these counted as `part`."""
    terms, tallies = view.terms(rollout_id), dict[int, Tally]()
    for host in hosts:
        wave = terms.wave_of.get(host)
        if wave is not None:
            tally = tallies.get(wave, view.tally_of_wave(rollout_id, wave))
            counted = view.counts_of(rollout_id, host).tally
            tallies[wave] = tally.replaced(counted, part)
    return tallies


def wave_broken(
    view: FleetView, rollout_id: RolloutId, hostname: str, now: datetime
) -> WaveBroken | None:
    """Return the event that is due if the wave of `hostname`, which now counts for less, is broken.

    Asked when a host failed, lapsed or was skipped, and at no other time: what an operator cleared breaks nothing a
    second time. `None` for a rollout that does not go on.
    Raises: UnknownRollout.
    """
    state = view.rollout(rollout_id).state
    if state is not RolloutState.ACTIVE and state is not RolloutState.CONVERGING:
        return None
    terms = view.terms(rollout_id)
    wave = terms.wave_of.get(hostname)
    if wave is None or verdict_of(view, rollout_id, wave) is not WaveVerdict.BROKEN:
        return None
    tally = view.tally_of_wave(rollout_id, wave)
    allowed = terms.allowed_failures(wave)
    return WaveBroken(rollout_id, wave, tally.failed, allowed, tally.absent, now)
