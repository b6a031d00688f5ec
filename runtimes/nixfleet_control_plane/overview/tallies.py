"""The hosts of a rollout by state and by standing, from the counts that the view keeps. O(waves), never O(hosts)."""

from collections import Counter
from collections.abc import Iterable

from attrs import frozen

from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.rollout_view import HostGroup
from nixfleet_state_machine.planner.rollout_status import WaveState, WaveStatus
from nixfleet_state_machine.rollout.state import Standing


@frozen
class Grouped:
    """states: hosts that count by their state, in the order of the states. standings: the others, those there are."""

    states: FrozenMap[str, int]
    standings: FrozenMap[str, int]


def grouped(view: FleetView, rollout_id: RolloutId) -> dict[int | None, Grouped]:
    """Return the hosts of each wave of an open rollout. Raises: UnknownRollout."""
    by_wave: dict[int | None, list[tuple[HostGroup, int]]] = {}
    for group, count in view.groups_of(rollout_id).items():
        by_wave.setdefault(group.wave, []).append((group, count))
    return {wave: _grouped(groups) for wave, groups in by_wave.items()}


def grouped_in_all(view: FleetView, rollout_id: RolloutId) -> Grouped:
    """Return the hosts of all waves. Raises: UnknownRollout."""
    return _grouped(view.groups_of(rollout_id).items())


def in_flight(view: FleetView, rollout_id: RolloutId) -> int:
    """Return how many hosts are under way, or have a dispatch in the queue. Raises: UnknownRollout."""
    acting = sum(
        count
        for group, count in view.groups_of(rollout_id).items()
        if group.state.is_in_flight and not group.standing.is_silent
    )
    return acting + view.queue_length(rollout_id)


def done_hosts(waves: Iterable[WaveStatus]) -> int:
    """Return how many hosts that count are done: Converged, or failed in a wave that is done without them."""
    return sum(done_in(wave) for wave in waves)


def done_in(wave: WaveStatus) -> int:
    """As `done_hosts`, of one wave."""
    tolerated = wave.failed if wave.verdict is WaveState.DONE else 0
    # One that tries again after a failure and converged is Converged, and failed no more.
    return min(wave.converged + tolerated, wave.total)


def _grouped(groups: Iterable[tuple[HostGroup, int]]) -> Grouped:
    states, standings = Counter[HostState](), Counter[Standing]()
    for group, count in groups:
        if group.standing is Standing.COUNTED:
            states[group.state] += count
        else:
            standings[group.standing] += count
    return Grouped(
        FrozenMap({state.value: states[state] for state in HostState}),
        FrozenMap({each.value: standings[each] for each in Standing if standings[each]}),
    )
