"""The verdict of a wave: whether it goes on, is done or is broken. One pure function, and its readings from a view.

It replaces "the first failure halts" and "everybody converged". Where no host may fail it is both.
Source: docs/spec/policy.md, The verdict of a wave.
"""

from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime
from enum import Enum, auto

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.tally import Tally
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


def verdict_of(
    view: FleetView,
    rollout_id: RolloutId,
    wave: int | None,
    succeeded: Callable[[Tally], int] = lambda tally: tally.eligible,
) -> WaveVerdict:
    """Return the verdict of a wave. wave: `None`: the hosts in no wave.

    succeeded: which number of its tally; by default the hosts that are Converged or Deferred.
    Raises: UnknownRollout.
    """
    tally = view.tally_of_wave(rollout_id, wave)
    allowed = view.terms(rollout_id).allowed_failures(wave)
    # An operator may have gone on without the evidence of hosts that do not come.
    absent = 0 if wave in view.rollout(rollout_id).cleared_waves else tally.absent
    return wave_verdict(tally.total, succeeded(tally), tally.failed, allowed, absent)


def waves_without(
    view: FleetView, rollout_id: RolloutId, excused: Collection[str]
) -> tuple[int, ...]:
    """Return the waves of which nobody comes, once these hosts are excused besides. O(hosts excused + waves).

    Raises: UnknownRollout.
    """
    terms, rollout = view.terms(rollout_id), view.rollout(rollout_id)
    counted = (host for host in excused if rollout.standing_of(host).is_counted)
    fewer = Counter(terms.wave_of.get(host) for host in counted)
    absent = {host for host in excused if rollout.standing_of(host).is_absent}
    excused_absent = Counter(terms.wave_of.get(host) for host in absent)
    waves = ((wave, view.tally_of_wave(rollout_id, wave)) for wave in view.waves_of(rollout_id))
    return tuple(
        sorted(
            wave
            for wave, tally in waves
            if wave is not None
            and tally.total == fewer[wave]
            and tally.absent > excused_absent[wave]
        )
    )


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
