"""All hosts of a rollout in columns, for a map: little is computed and little is sent for each.

Source: docs/spec/overview.md, All hosts of a rollout.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from nixfleet_control_plane.engine.state import LoadedManifest
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.host_pages import HostMap, MapWave
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.state import Standing

STATE_NAMES: Final = tuple(state.value for state in HostState)
STANDING_NAMES: Final = tuple(standing.value for standing in Standing)
_STATE_DIGITS: Final = {state: str(place) for place, state in enumerate(HostState)}
_STANDING_DIGITS: Final = {standing: str(place) for place, standing in enumerate(Standing)}


def map_waves(terms: RolloutTerms) -> Iterator[MapWave]:
    """Yield how many hosts in a row are in each wave. O(hosts)."""
    for wave, hosts in groupby(terms.hosts_in_order, key=terms.wave_of.get):
        yield MapWave(sum(1 for _ in hosts), wave)


def shown_map(
    loaded: LoadedManifest, head: int, states: str, standings: str, known: str | None = None
) -> HostMap:
    """Return the map of a rollout. known: the members that the asker has, whose names are left out then. O(hosts)."""
    members = loaded.body_hash[:16]
    return HostMap(
        loaded.manifest.rollout_id,
        head,
        members,
        STATE_NAMES,
        STANDING_NAMES,
        tuple(map_waves(loaded.terms)),
        states,
        standings,
        None if known == members else loaded.terms.hosts_in_order,
    )


def columns(view: FleetView, rollout_id: RolloutId, hosts: Sequence[str]) -> tuple[str, str]:
    """Return a digit for the state and one for the standing of each of `hosts`, of an open rollout.

    Raises: UnknownRollout.
    """
    standings = view.rollout(rollout_id).standings
    records = (view.host(rollout_id, host) for host in hosts)
    states = [
        _STATE_DIGITS[HostState.PENDING if record is None else record.state] for record in records
    ]
    counted = _STANDING_DIGITS[Standing.COUNTED]
    if not standings:
        return "".join(states), counted * len(hosts)
    shown = [_STANDING_DIGITS[standings.get(host, Standing.COUNTED)] for host in hosts]
    return "".join(states), "".join(shown)
