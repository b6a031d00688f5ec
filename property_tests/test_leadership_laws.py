"""Laws of leadership: whatever is late, lost, frozen or killed, no two control planes answer from memory at once."""

from enum import Enum, auto
from typing import Final

from attrs import define, evolve, field
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nixfleet_control_plane.leadership.decision import (
    BeginTerm,
    CaughtUp,
    Drain,
    Drained,
    EndTerm,
    Following,
    HandingOver,
    HandOver,
    Happening,
    Leadership,
    Leading,
    Looked,
    NotRenewed,
    NotTaken,
    Order,
    Renew,
    Renewed,
    Replaced,
    SessionBroke,
    StopAsked,
    Take,
    Taken,
    TermEnded,
    TimePassed,
    decide,
    may_answer,
)
from nixfleet_control_plane.leadership.lease import LeaseSeen, LeaseTerms

TERMS: Final = LeaseTerms(3.0)
NODES: Final = st.integers(0, 1)
MISHAPS_MAX: Final = 3
"""How often something goes wrong in a run: with more, no control plane leads for long."""
NO_HOLDER: Final = -1


class Asked(Enum):
    """What a control plane asks of the store."""

    LOOK = auto()
    TAKE = auto()
    COMMIT = auto()
    HAND_OVER = auto()


@define
class Request:
    """One request. answer: once the store has carried it out."""

    asked: Asked
    sent_at: float
    seen: LeaseSeen | None = None
    answer: Happening | None = None
    is_done: bool = False


@define
class Node:
    """A control plane. life: which of its processes; a killed one is followed by another.

    seen_lives: whose sessions it has seen since it is connected.
    """

    number: int
    life: int = 0
    leadership: Leadership = field(factory=Following)
    is_frozen: bool = False
    requests: list[Request] = field(factory=list[Request])
    seen_sessions: set[tuple[int, int]] = field(factory=set[tuple[int, int]])

    @property
    def holder(self) -> tuple[int, int]:
        return self.number, self.life


def _may_go_wrong(machine: "LeadershipMachine") -> bool:
    return machine.mishaps < MISHAPS_MAX


class LeadershipMachine(RuleBasedStateMachine):
    """Two control planes, one store, and a network on which everything takes as long as it wants."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.epoch = 0
        self.holder: tuple[int, int] = (NO_HOLDER, 0)
        self.lease_until = self.now
        self.nodes = [Node(0), Node(1)]
        self.mishaps = 0

    # What happens by itself.

    @rule(seconds=st.sampled_from((0.01, 0.3, 1.0, 2.6, 2.7, 2.8, 3.0)) | st.floats(0.001, 4.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes:
            self._tell(node, TimePassed())

    @rule(number=NODES)
    def a_follower_looks(self, number: int) -> None:
        node = self.nodes[number]
        if not node.is_frozen and isinstance(node.leadership, Following):
            self._tell(node, CaughtUp())
            node.requests.append(Request(Asked.LOOK, self.now))

    @rule(number=NODES)
    def a_follower_looks_and_is_answered_at_once(self, number: int) -> None:
        node = self.nodes[number]
        if not node.is_frozen and isinstance(node.leadership, Following):
            self._tell(node, CaughtUp())
            self._tell(node, Looked(self._seen_by(node)))

    @rule(number=NODES)
    def a_leader_commits(self, number: int) -> None:
        node = self.nodes[number]
        if not node.is_frozen and isinstance(node.leadership, Leading | HandingOver):
            node.requests.append(Request(Asked.COMMIT, self.now))

    @rule(number=NODES, which=st.integers(0, 5))
    def the_store_carries_a_request_out(self, number: int, which: int) -> None:
        node = self.nodes[number]
        waiting = [it for it in node.requests if not it.is_done]
        if waiting:
            request = waiting[which % len(waiting)]
            request.is_done = True
            request.answer = self._carried_out(node, request)

    @rule(number=NODES, which=st.integers(0, 5))
    def an_answer_arrives(self, number: int, which: int) -> None:
        node = self.nodes[number]
        answered = [it for it in node.requests if it.is_done]
        if answered and not node.is_frozen:
            request = answered[which % len(answered)]
            node.requests.remove(request)
            if request.answer is not None:
                self._tell(node, request.answer)

    @precondition(_may_go_wrong)
    @rule(number=NODES, which=st.integers(0, 5))
    def an_answer_is_lost(self, number: int, which: int) -> None:
        self.mishaps += 1
        node = self.nodes[number]
        if node.requests and not node.is_frozen:
            request = node.requests.pop(which % len(node.requests))
            if request.asked is Asked.TAKE:
                self._tell(node, NotTaken())
            elif request.asked is Asked.COMMIT:
                self._tell(node, NotRenewed())

    # What goes wrong, and what people do.

    @precondition(_may_go_wrong)
    @rule(number=NODES)
    def one_is_killed(self, number: int) -> None:
        self.mishaps += 1
        node = self.nodes[number]
        self.nodes[number] = Node(number, node.life + 1)

    @precondition(_may_go_wrong)
    @rule(number=NODES)
    def one_stands_still(self, number: int) -> None:
        self.mishaps += 1
        self.nodes[number].is_frozen = True

    @rule(number=NODES)
    def one_wakes_up(self, number: int) -> None:
        self.nodes[number].is_frozen = False
        self._tell(self.nodes[number], TimePassed())

    @precondition(_may_go_wrong)
    @rule(number=NODES)
    def sessions_are_ended_by_the_server(self, number: int) -> None:
        self.mishaps += 1
        node = self.nodes[number]
        if not node.is_frozen:
            node.seen_sessions.clear()
            node.requests = [it for it in node.requests if it.is_done]
            self._tell(node, SessionBroke())

    @precondition(_may_go_wrong)
    @rule(number=NODES)
    def one_is_asked_to_stop(self, number: int) -> None:
        self.mishaps += 1
        if not self.nodes[number].is_frozen:
            self._tell(self.nodes[number], StopAsked())

    # The laws.

    @invariant()
    def at_most_one_answers_and_it_has_the_last_epoch(self) -> None:
        answering = [it for it in self.nodes if may_answer(it.leadership, self.now, TERMS)]
        assert len(answering) <= 1, answering
        for node in answering:
            assert _epoch_of(node.leadership) == self.epoch, (node, self.epoch)
            assert self.holder == node.holder

    @invariant()
    def who_leads_knows_an_epoch_that_was_given_once(self) -> None:
        epochs = [epoch for it in self.nodes if (epoch := _epoch_of(it.leadership)) is not None]
        assert len(epochs) == len(set(epochs))

    # The store.

    def _carried_out(self, node: Node, request: Request) -> Happening | None:
        is_owner = self.holder == node.holder
        match request.asked:
            case Asked.LOOK:
                return Looked(self._seen_by(node))
            case Asked.TAKE:
                seen = request.seen
                assert seen is not None
                is_over = self.lease_until <= self.now
                if seen.epoch != self.epoch or not (is_over or seen.is_abandoned):
                    return NotTaken()
                self.epoch += 1
                self.holder = node.holder
                self.lease_until = self.now + TERMS.seconds
                return Taken(self.epoch, request.sent_at)
            case Asked.COMMIT:
                if not is_owner or _epoch_of(node.leadership) != self.epoch:
                    return Replaced()
                self.lease_until = self.now + TERMS.seconds
                return Renewed(request.sent_at)
            case Asked.HAND_OVER:
                if is_owner:
                    self.lease_until = self.now
                return None

    def _seen_by(self, node: Node) -> LeaseSeen:
        is_there = any(it.holder == self.holder for it in self.nodes)
        was_seen = self.holder in node.seen_sessions
        if is_there:
            node.seen_sessions.add(self.holder)
        return LeaseSeen(
            self.epoch,
            str(self.holder),
            "",
            self.lease_until - self.now,
            0,
            is_abandoned=was_seen and not is_there,
        )

    def _tell(self, node: Node, happening: Happening) -> None:
        if node.is_frozen:
            return
        node.leadership, orders = decide(node.leadership, happening, self.now, TERMS)
        for order in orders:
            self._obey(node, order)

    def _obey(self, node: Node, order: Order) -> None:
        match order:
            case Take():
                node.requests.append(Request(Asked.TAKE, self.now, order.seen))
            case Renew():
                node.requests.append(Request(Asked.COMMIT, self.now))
            case Drain():
                self._tell(node, Drained())
            case HandOver():
                node.requests.append(Request(Asked.HAND_OVER, self.now))
            case EndTerm():
                self._tell(node, TermEnded())
            case BeginTerm():
                pass


def _epoch_of(leadership: Leadership) -> int | None:
    if isinstance(leadership, HandingOver):
        return leadership.leading.epoch
    return leadership.epoch if isinstance(leadership, Leading) else None


class LateRenewalMachine(LeadershipMachine):
    """Planted: a renewal counts from its answer, and not from when it was sent."""

    def _tell(self, node: Node, happening: Happening) -> None:
        if isinstance(happening, Renewed | Taken):
            happening = evolve(happening, sent_at=self.now)
        super()._tell(node, happening)


TestLeadership = LeadershipMachine.TestCase


def test_a_lease_that_counts_from_the_answer_breaks_the_law() -> None:
    """The laws above see it: what arrives late proves nothing about now."""
    machine = LateRenewalMachine()
    first, second = machine.nodes[0], machine.nodes[1]
    machine.a_follower_looks(0)
    machine.the_store_carries_a_request_out(0, 0)
    machine.an_answer_arrives(0, 0)
    machine.the_store_carries_a_request_out(0, 0)
    machine.time_passes(3.5)
    machine.an_answer_arrives(0, 0)
    machine.a_follower_looks(1)
    for _ in range(2):
        machine.the_store_carries_a_request_out(1, 0)
        machine.an_answer_arrives(1, 0)
    assert may_answer(first.leadership, machine.now, TERMS)
    assert may_answer(second.leadership, machine.now, TERMS)
