"""What a control plane's state comes to, so that two can be compared: all that decides or answers anything.

Left out: what is yet to be written behind (that depends on when it was flushed), and the changes since the last
plan (an entry too many alters no answer).
"""

from nixfleet_control_plane.engine.state import State
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.index.tally import Tally

WHOLE = -1
"""Where a rollout's own tally stands among those of its waves."""


def likeness(state: State) -> dict[str, object]:
    """Return what two equal states have in common, in a form that shows where two others differ."""
    view = state.view
    return {
        "head": state.head_seq,
        "rollouts": dict(view.rollouts),
        "hosts": {id_: tuple(view.hosts_of(id_)) for id_ in _open(view)},
        "queued": {id_: tuple(view.queued_of(id_)) for id_ in _open(view)},
        "tallies": {id_: _tallies(view, id_) for id_ in _open(view)},
        "in flight": _in_flight(view),
        "offers": dict(view.offers),
        "holds": set(view.holds),
        "terms": {id_: view.terms(id_) for id_ in _open(view)},
        "manifests": dict(state.manifests),
        "fleets": dict(state.fleets),
        "quarantines": {name: closures for name, closures in state.quarantines.items() if closures},
        "dispatches": dict(state.dispatches),
        "deferrals": dict(state.deferrals),
        "waiting by gate": {gate: count for gate, count in state.gate_counts.items() if count},
        "outstanding": {key: controls for key, controls in state.outstanding.items() if controls},
        "prune due": dict(state.prune_due),
        "pruned": set(state.pruned),
        "refused": dict(state.refused),
        "enrolled": dict(state.identities.ring.enrolled),
        "declared keys": dict(state.identities.ring.fleet_keys),
        "revoked": dict(state.identities.ring.revoked),
        "revocations": state.identities.revocations.get(),
        "nonces": state.identities.nonces.get(),
        "used nonces": dict(state.identities.used_nonces),
    }


def _open(view: FleetView) -> list[RolloutId]:
    """Rollouts with hosts: those that were not pruned."""
    return sorted(id_ for id_ in view.rollouts if _has_book(view, id_))


def _has_book(view: FleetView, rollout_id: RolloutId) -> bool:
    try:
        view.terms(rollout_id)
    except KeyError:
        return False
    return True


def _tallies(view: FleetView, rollout_id: RolloutId) -> dict[int, Tally]:
    waves = range(view.terms(rollout_id).last_wave + 1)
    tallies = {wave: view.tally(rollout_id, wave) for wave in waves}
    return {**tallies, WHOLE: view.tally(rollout_id)}


def _in_flight(view: FleetView) -> dict[str, int]:
    names = {budget.name for id_ in _open(view) for budget in view.terms(id_).budgets}
    return {name: view.in_flight_of(name) for name in names}
