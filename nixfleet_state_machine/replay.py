"""Folding a log: the record that past inputs make of a fresh one. Effects are not for a second time.

Each input comes with the `now` it was first taken in at. What applied once applies again, so one that does not
is raised, never skipped: the log and the machine have parted.
"""

from collections.abc import Iterable
from datetime import datetime

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord


def replay_host(
    record: HostRolloutState, facts: Iterable[tuple[AgentEvent, datetime]], policy: RolloutPolicy
) -> HostRolloutState:
    """Return what `facts`, in the order of their log, make of `record`; the same for either side.

    Raises: TransitionError for the first fact that does not apply.
    """
    for fact, now in facts:
        record, _ = step(record, Remote(fact), now, policy)
    return record


def replay_rollout(
    record: RolloutRecord, events: Iterable[tuple[RolloutEvent, datetime]]
) -> RolloutRecord:
    """Return what `events`, in the order of their log, make of `record`; its log seqs stay.

    Raises: RolloutTransitionError for the first event that does not apply.
    """
    for event, now in events:
        record, _ = step_rollout(record, event, now)
    return record
