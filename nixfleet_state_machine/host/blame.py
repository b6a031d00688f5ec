"""Whether a revert says something about the closure that the host left. Pure.

A closure is bad when it ran and failed. One that never ran here, and one that ran before the rollout, is not to blame:
barring it from the channel would keep it from hosts on which it works.
Source: docs/spec/host-machine.md, Quarantine.
"""

from nixfleet_state_machine.host.state import HostRolloutState


def blames_closure(record: HostRolloutState) -> bool:
    """Return whether the revert of `record`, which is Reverted, bars its target: it ran, and the host left it."""
    return (
        record.activation_completed_at is not None and record.reverted_to != record.target_closure
    )
