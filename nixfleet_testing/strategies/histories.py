"""Sequences of events for one host, seen from either side: such as apply, such as need not, and both mixed."""

from datetime import datetime
from enum import StrEnum
from typing import assert_never

from attrs import frozen
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.host.event import Event, Local, Remote
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_testing.strategies.facts import facts, numbered
from nixfleet_testing.strategies.hosts import (
    ANY_STATE,
    host_histories,
    legal_facts,
    pending_records,
)
from nixfleet_testing.strategies.names import policies, times

LENGTH_MAX = 8
TERMINAL = (HostState.CONVERGED, HostState.REVERTED)


class HistoryKind(StrEnum):
    """`LEGAL`: each event applies. `ADVERSARIAL`: any events, in any order. `MIXED`: some of each."""

    LEGAL = "legal"
    ADVERSARIAL = "adversarial"
    MIXED = "mixed"


@frozen
class History:
    """Events for a Pending record, each with the time at which it is applied."""

    pending: HostRolloutState
    policy: RolloutPolicy
    events: tuple[tuple[Event, datetime], ...]

    @property
    def records(self) -> tuple[HostRolloutState, ...]:
        """The record after each event; one that is refused leaves it as it was."""
        record, found = self.pending, list[HostRolloutState]()
        for event, now in self.events:
            record = after(record, event, now, self.policy)
            found.append(record)
        return tuple(found)

    @property
    def record(self) -> HostRolloutState:
        """What the whole history leads to."""
        return self.records[-1] if self.events else self.pending


def after(
    record: HostRolloutState, event: Event, now: datetime, policy: RolloutPolicy
) -> HostRolloutState:
    """Return the record after `event`: the same one where it is refused."""
    try:
        return step(record, event, now, policy)[0]
    except TransitionError:
        return record


def histories(
    kind: HistoryKind = HistoryKind.MIXED,
    side: type[Local] | type[Remote] | None = None,
    to: HostState | None = None,
) -> SearchStrategy[History]:
    """Histories of `kind`, seen from `side`, or from either. to: where a legal one ends.

    Raises: InvalidArgument for an end that is asked of a history which may end anywhere.
    """
    if to is not None and kind is not HistoryKind.LEGAL:
        raise InvalidArgument(f"expected no `to` for a history that is {kind.value}, found {to!r}")
    sides = st.sampled_from((Local, Remote) if side is None else (side,))
    match kind:
        case HistoryKind.LEGAL:
            return _legal(sides, ANY_STATE if to is None else st.just(to))
        case HistoryKind.ADVERSARIAL:
            return _others(sides, mixed=False)
        case HistoryKind.MIXED:
            return _others(sides, mixed=True)
        case _:
            assert_never(kind)


_Sides = SearchStrategy[type[Local] | type[Remote]]


@st.composite
def _legal(draw: st.DrawFn, sides: _Sides, to: SearchStrategy[HostState]) -> History:
    drawn, seen_from = draw(host_histories(to)), draw(sides)
    events = tuple((seen_from(fact), now) for fact, now in drawn.facts)
    return History(drawn.pending, drawn.policy, events)


@st.composite
def _others(draw: st.DrawFn, sides: _Sides, mixed: bool) -> History:
    record = pending = draw(pending_records())
    policy, seen_from = draw(policies()), draw(sides)
    events = list[tuple[Event, datetime]]()
    for _ in range(draw(st.integers(0, LENGTH_MAX))):
        choices = [facts(), numbered(facts(), above=record.last_event_seq)]
        if mixed and record.state not in TERMINAL:
            choices += [legal_facts(record)] * 4
        event, now = seen_from(draw(draw(st.sampled_from(choices)))), draw(times())
        record = after(record, event, now, policy)
        events.append((event, now))
    return History(pending, policy, tuple(events))
