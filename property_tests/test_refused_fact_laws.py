"""Laws of facts that do not apply: whatever a host says, in whatever pieces, it is heard once and judged once."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import TypeAlias

from attrs import evolve, frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from nixfleet_control_plane.engine.fact_intake import REFUSED_IN_A_ROW_MAX
from nixfleet_control_plane.messages.log_entry import FactRefused, FactReported
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    ProbeTopologyDeclared,
    RollbackComplete,
)
from nixfleet_proto.fleet import RolloutPolicy
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.transport import EventRefused, EventsOutcome, ReplayFrom
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.host.event import Local
from nixfleet_state_machine.host.reducer import step
from nixfleet_state_machine.host.state import HostRolloutState
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import START
from tests.engines.scratch import scratch_directory
from tests.engines.tampering import cut

HOST, TARGET = "web-01", "r1-web-01"
Said: TypeAlias = Callable[[int, datetime], AgentEvent]

SAID: tuple[Said, ...] = (
    lambda seq, at: DispatchAck("release-0", at, seq),
    lambda seq, at: ActivationStarted(at, "directory", seq),
    lambda seq, at: ActivationCompleted(TARGET, 0, at, seq),
    lambda seq, at: ActivationCompleted("another", 0, at, seq),
    lambda seq, at: ProbeTopologyDeclared((), at, seq),
    lambda seq, at: Converged(at, TARGET, seq),
    lambda seq, at: RollbackComplete("release-0", 0, at, seq),
)
IN_ORDER = (0, 1, 2, 4, 5)
"""The life of a host that does everything right, by place in `SAID`."""


@frozen
class Piece:
    """Some of what was said, on its way: `length` facts from number `first` on. trouble: what happens then."""

    first: int
    length: int
    trouble: str


# A life that is in order, with anything in between: so that it gets somewhere.
lives = st.lists(st.integers(0, len(SAID) - 1), max_size=2).flatmap(
    lambda stray: st.permutations([*IN_ORDER, *stray]) | st.just([*stray, *IN_ORDER])
)
pieces = st.lists(
    st.builds(
        Piece,
        st.integers(1, 8),
        st.integers(1, 5),
        st.sampled_from(("none", "none", "crash", "lost cache", "flush")),
    ),
    max_size=8,
)


def _facts(life: list[int]) -> tuple[AgentEvent, ...]:
    return tuple(
        SAID[which](seq, START + timedelta(minutes=2 * seq))
        for seq, which in enumerate(life, start=1)
    )


@given(life=lives, pieces=pieces)
def test_a_record_is_that_of_the_facts_that_applied(life: list[int], pieces: list[Piece]) -> None:
    """Gaps are asked for, copies are answered the same, and no crash makes a difference to any of it."""
    facts = _facts(life)
    with (
        scratch_directory() as directory,
        closing(ScriptedControlPlane(directory)) as control_plane,
    ):
        rollout_id = control_plane.publish("r1")
        pending = control_plane.mirrored(rollout_id, HOST)
        # Dates that are to come, and a history in which hardly anything applies, have laws of their own.
        control_plane.wait(minutes=60)
        assume(_refused_in_a_row(pending, facts) <= REFUSED_IN_A_ROW_MAX)
        expected = Expected(pending, facts)
        for piece in (*pieces, *_rest(facts)):
            sent = facts[piece.first - 1 : piece.first - 1 + piece.length]
            control_plane.wait(minutes=1)
            answer = control_plane.hear(HOST, rollout_id, *sent)
            assert answer == expected.answer(sent, rollout_id)
            assert control_plane.mirrored(rollout_id, HOST) == expected.record
            _befall(control_plane, piece.trouble)
        assert expected.record.last_event_seq == len(facts)
        assert control_plane.check_store().differences == ()
        _require_everything_logged_once(control_plane, facts)


def _refused_in_a_row(record: HostRolloutState, facts: tuple[AgentEvent, ...]) -> int:
    most = run = 0
    for fact in facts:
        try:
            record, _ = step(record, Local(fact), START, RolloutPolicy())
            run = 0
        except TransitionError:
            record = evolve(record, last_event_seq=fact.seq)
            run += 1
        most = max(most, run)
    return most


def _rest(facts: tuple[AgentEvent, ...]) -> Iterator[Piece]:
    """In the end everything is said, one by one."""
    for fact in facts:
        yield Piece(fact.seq, 1, "none")


def _befall(control_plane: ScriptedControlPlane, trouble: str) -> None:
    before = likeness(control_plane.state)
    match trouble:
        case "crash":
            control_plane.restart_control_plane()
        case "lost cache":
            control_plane.store.close()
            cut(control_plane.database, "DELETE FROM host_rollout_records")
            control_plane.start_control_plane()
        case "flush":
            control_plane.flush(1)
            return
        case _:
            return
    assert likeness(control_plane.state) == before


class Expected:
    """The host's own machine, on which a fact that does not apply has no effect but its number."""

    def __init__(self, pending: HostRolloutState, facts: tuple[AgentEvent, ...]) -> None:
        self.record = pending
        self._refused: dict[int, str] = {}
        self._facts = facts

    def answer(self, sent: tuple[AgentEvent, ...], rollout_id: RolloutId) -> EventsOutcome:
        """Return what the host is to hear, and be as after `sent`."""
        stops: list[EventsOutcome] = []
        for accepted, fact in enumerate(sent):
            if fact.seq > self.record.last_event_seq + 1:
                gap = ReplayFrom(rollout_id, self.record.last_event_seq + 1)
                stops.append(EventsOutcome(accepted, gap))
                break
            if fact.seq > self.record.last_event_seq:
                self._take(fact)
            if fact.seq in self._refused:
                refusal = EventRefused(rollout_id, fact.seq, self._refused[fact.seq])
                stops.append(EventsOutcome(accepted, refusal))
        return stops[0] if stops else EventsOutcome(len(sent))

    def _take(self, fact: AgentEvent) -> None:
        try:
            self.record, _ = step(self.record, Local(fact), START, RolloutPolicy())
        except TransitionError as error:
            self._refused[fact.seq] = str(error)
            self.record = evolve(self.record, last_event_seq=fact.seq)


def _require_everything_logged_once(
    control_plane: ScriptedControlPlane, facts: tuple[AgentEvent, ...]
) -> None:
    entries = [logged.entry for logged in control_plane.log()]
    told = [it.fact for it in entries if isinstance(it, FactReported | FactRefused)]
    assert tuple(told) == facts
