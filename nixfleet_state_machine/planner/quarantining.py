"""Which closures a rollout bars from its channel. Pure.

The host machine says that a host reverted; whether that bars the closure for all others is a question of the policy.
Source: docs/spec/policy.md, Quarantine.
"""

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.blame import blames_closure
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.rollout.state import RolloutRecord, Standing


def bars_closure(view: FleetView, rollout_id: RolloutId, hostname: str) -> bool:
    """Return whether the revert of `hostname` alone bars its closure: where no host may fail, or a wave is broken.

    A host that counts for nothing bars nothing. Raises: UnknownRollout.
    """
    record = view.rollout(rollout_id)
    if not _bears_on_closure(record, hostname):
        return False
    return record.broken_at is not None or not view.terms(rollout_id).is_tolerant_of(hostname)


def reverted_closures(view: FleetView, rollout_id: RolloutId) -> tuple[str, ...]:
    """Return the closures that ran on hosts of the rollout, and were left: those to bar when a wave breaks. Sorted.

    Those of hosts that count for nothing are not among them. Raises: UnknownRollout.
    """
    record = view.rollout(rollout_id)
    blamed = {
        host.target_closure
        for host in view.hosts_of(rollout_id)
        if host.state is HostState.REVERTED
        and blames_closure(host)
        and _bears_on_closure(record, host.hostname)
    }
    return tuple(sorted(blamed))


def _bears_on_closure(record: RolloutRecord, hostname: str) -> bool:
    standing = record.standing_of(hostname)
    return standing is not Standing.LATE and standing is not Standing.LEFT
