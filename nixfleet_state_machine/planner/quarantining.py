"""Which closures a rollout bars from its channel. Pure.

The host machine says that a host reverted; whether that bars the closure for all others is a question of the policy.
Source: docs/spec/policy.md, Quarantine.
"""

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.rollout.state import Standing


def bars_closure(view: FleetView, rollout_id: RolloutId, hostname: str) -> bool:
    """Return whether the revert of `hostname` alone bars its closure: where no host may fail, or a wave is broken.

    A host that counts for nothing bars nothing. Raises: UnknownRollout.
    """
    record = view.rollout(rollout_id)
    standing = record.standing_of(hostname)
    if standing is Standing.LATE or standing is Standing.LEFT:
        return False
    return record.broken_at is not None or not view.terms(rollout_id).is_tolerant_of(hostname)


def reverted_closures(view: FleetView, rollout_id: RolloutId) -> tuple[str, ...]:
    """Return the closures that hosts of the rollout reverted from, sorted: those to bar when a wave breaks.

    Raises: UnknownRollout.
    """
    hosts = view.hosts_of(rollout_id)
    return tuple(
        sorted({each.target_closure for each in hosts if each.state is HostState.REVERTED})
    )
