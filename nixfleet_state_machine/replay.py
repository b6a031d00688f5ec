"""Replay: rebuild a record from the inputs in a log. Effects are dropped, since they were carried out the first time.

Each input comes with the `now` of its first application. An input that applied once applies again; one that does not
is raised and never skipped, because then the log and the machine disagree.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeVar

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.checked import require_arguments
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_state_machine.host.event import Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.rollout.event import RolloutEvent
from nixfleet_state_machine.rollout.reducer import step_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord

T = TypeVar("T")


def replay_host(
    record: HostRolloutState, facts: Iterable[tuple[AgentEvent, datetime]], policy: RolloutPolicy
) -> HostRolloutState:
    """Return the record after `facts`, in the order of their log, each with its `now`; the same for either side.

    Raises: TransitionError for the first fact that does not apply. InvalidValue.
    """
    for fact, now in _pairs("replay_host", "facts", facts):
        record, _ = step(record, Remote(fact), now, policy)
    return record


def replay_rollout(
    record: RolloutRecord, events: Iterable[tuple[RolloutEvent, datetime]]
) -> RolloutRecord:
    """Return the record after `events`, in the order of their log, each with its `now`; its log seqs stay.

    Raises: RolloutTransitionError for the first event that does not apply. InvalidValue.
    """
    for event, now in _pairs("replay_rollout", "events", events):
        record, _ = step_rollout(record, event, now)
    return record


def _pairs(
    function: str, name: str, inputs: Iterable[tuple[T, datetime]]
) -> Iterator[tuple[T, datetime]]:
    require_arguments(function, **{name: (inputs, Iterable)})
    for at, pair in enumerate(inputs):
        require_arguments(function, **{f"{name}[{at}]": (pair, tuple[object, datetime])})
        yield pair
