"""One of several control planes on a store: a process that follows the log, takes the lease, serves, and is fenced.

Every decision about leadership is the production one, `nixfleet_control_plane.leadership.decision`; here is the shell
that carries out its orders in virtual time, as `leadership.participant` does on an event loop.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias, assert_never

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import replay
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.leadership import decision
from nixfleet_control_plane.leadership.decision import (
    BeginTerm,
    CaughtUp,
    Drain,
    Drained,
    Ended,
    EndTerm,
    Following,
    HandOver,
    Happening,
    Leadership,
    Looked,
    NotRenewed,
    NotTaken,
    Order,
    Rang,
    Renew,
    Renewed,
    Replaced,
    SessionBroke,
    StopAsked,
    Take,
    Taken,
    TermEnded,
    TimePassed,
)
from nixfleet_control_plane.leadership.lease import LeaseSeen, LeaseTerms
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.control_plane import ControlPlane, Storage
from nixfleet_simulation.nodes.leadership.fenced_writes import FencedWrites
from nixfleet_simulation.nodes.leadership.process_timeline import ProcessTimeline
from nixfleet_simulation.nodes.leadership.store_link import StoreLink
from nixfleet_simulation.nodes.leadership.store_server import (
    Fence,
    Session,
    StoreRefused,
    StoreServer,
)
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.randomness import Random

MakeTerm: TypeAlias = Callable[["Participant", Storage], ControlPlane]

_DRAIN_LOOK: Final = 20_000
_SESSION_ENDS: Final = (1_000, 20_000)
_NOTICE_LOST: Final = 0.2
DRIFT_MAX: Final = 0.02
"""By how much a machine's clock runs faster or slower than the store's: together less than the margin of a lease."""


class Participant:
    """One control plane. clock: its machine's. term: what serves, while it leads. process: the name of the present one.

    refused: called when the store refuses what it sent while it led.
    """

    def __init__(
        self,
        name: str,
        agenda: Agenda,
        clock: NodeClock,
        rng: Random,
        server: StoreServer,
        terms: LeaseTerms,
        trace: Trace,
        make_term: MakeTerm,
        refused: Callable[[str], None],
    ) -> None:
        self.name = name
        self.clock = clock
        self.process = ""
        self.is_up = False
        self.term: ControlPlane | None = None
        self.timeline = ProcessTimeline(agenda)
        self.link = StoreLink(agenda, self.timeline, rng, server)
        self._agenda = agenda
        self._rng = rng
        self._server = server
        self._terms = terms
        self._trace = trace
        self._make_term = make_term
        self._refused = refused
        self._rate = 1 + rng.uniform(-DRIFT_MAX, DRIFT_MAX)
        self._runs = 0
        self._life = NodeLifetime()
        self._leadership: Leadership = Ended()
        self._state: State | None = None
        self._read = 0
        self._fence: Fence | None = None
        self._is_asking = False
        self._is_at_door = False
        self._alarm = 0
        self._session = Session("", _nothing, _nothing)

    # The process.

    def start(self) -> None:
        """Start a process, which knows nothing."""
        self._runs += 1
        self.process = f"{self.name}, process {self._runs}"
        self.is_up = True
        self._life = NodeLifetime()
        self._leadership, self._state, self._is_asking = Following(), None, False
        self.term = None
        self._trace.narrate(self.name, "starts, and follows")
        self._open_session()
        self._wake()

    def die(self) -> None:
        """End at once; the server notices it soon after."""
        if not self.is_up:
            return
        self.is_up = False
        self._life.is_over = True
        self._end_term()
        self._leadership = Ended()
        self._agenda.after(self._rng.randint(*_SESSION_ENDS), None, self._server.end, self._session)
        self.timeline.go_on()
        self._trace.narrate(self.name, "ends")

    def stand_still(self) -> None:
        """Stand still, until `go_on`."""
        self.timeline.is_still = True

    def go_on(self) -> None:
        """Go on."""
        self.timeline.go_on()

    def ask_to_stop(self) -> None:
        """Ask the process to end, as a service manager does."""
        self.timeline.happen(self._life, partial(self._feed, StopAsked()))

    def lose_sessions(self) -> None:
        """Have the process notice that its sessions with the store are over."""
        self.timeline.happen(self._life, self._session_broke)

    @property
    def is_standing_still(self) -> bool:
        """Whether it stands still."""
        return self.timeline.is_still

    @property
    def is_serving(self) -> bool:
        """Whether it answers, as those see it who ask."""
        return self.term is not None and self.term.is_up and self.is_current()

    def monotonic(self) -> float:
        """Return the time of its machine, in seconds; it runs a little faster or slower than another's."""
        return self._agenda.now / SECOND * self._rate

    def is_current(self) -> bool:
        """Return whether it may answer from memory."""
        return decision.may_answer(self._leadership, self.monotonic(), self._terms)

    # Decisions, and what they order.

    def _feed(self, happened: Happening) -> None:
        before = type(self._leadership)
        self._leadership, orders = decision.decide(
            self._leadership, happened, self.monotonic(), self._terms
        )
        if type(self._leadership) is not before:
            self._trace.narrate(self.name, f"is {type(self._leadership).__name__}")
        for order in orders:
            self._carry_out(order)
        if isinstance(self._leadership, Ended) and self.is_up and not _hands_over(orders):
            self.die()
        else:
            self._wake()

    def _carry_out(self, order: Order) -> None:
        match order:
            case Take():
                self._take(order.seen)
            case BeginTerm():
                self._begin_term()
            case Renew():
                self._renew()
            case EndTerm():
                self._end_term()
                self._state = None
                self._is_at_door = False
                self._ask_door(self._server.leave_door)
                self.timeline.after(0, self._life, self._feed, TermEnded())
            case Drain():
                self._drain()
            case HandOver():
                hand_over = partial(self._server.hand_over, self._session)
                ends: Callable[[object], None] = lambda _: self.die()  # noqa: E731
                self.link.ask(self._life, hand_over, ends, ends)
            case _:
                assert_never(order)

    def _wake(self) -> None:
        """Set the alarm for what is due next."""
        self._alarm += 1
        now = self.monotonic()
        due = decision.next_due(self._leadership, now, self._terms)
        if due is not None:
            delay = max(1, int((due - now) / self._rate * SECOND))
            self.timeline.after(delay, self._life, self._ring_alarm, self._alarm)

    def _ring_alarm(self, number: int) -> None:
        if number != self._alarm:
            return
        if isinstance(self._leadership, Following):
            self._look()
        else:
            self._feed(TimePassed())

    # Following: the lease, and the log.

    def _look(self) -> None:
        if self._is_asking:
            return
        self._is_asking = True
        self.link.ask(self._life, self._statement_of_look, self._looked, self._not_looked)

    def _statement_of_look(self) -> tuple[LeaseSeen, State | None, Sequence[LogRow]]:
        seen = self._server.look(self._session)
        if self._state is None:
            state, read = self._server.snapshot()
            self._read = read
            return seen, state, ()
        return seen, None, self._server.rows_after(self._read)

    def _looked(self, found: tuple[LeaseSeen, State | None, Sequence[LogRow]]) -> None:
        self._is_asking = False
        seen, state, rows = found
        if state is not None:
            self._state = state
        self._fold(rows)
        if not self._is_at_door:
            self._is_at_door = True
            self._ask_door(self._server.wait_at_door)
        if isinstance(self._leadership, Following):
            self._feed(CaughtUp())
            self._feed(Looked(seen))

    def _not_looked(self, _: Exception) -> None:
        self._is_asking = False
        self._wake()

    def _fold(self, rows: Sequence[LogRow]) -> None:
        """Apply rows that another one wrote."""
        assert self._state is not None
        for row in rows:
            replay(self._state, CommitBuilder(), entry_of(row))
        self._state.undo.settle()
        self._read += len(rows)

    # The lease.

    def _take(self, seen: LeaseSeen) -> None:
        sent_at = self.monotonic()

        def answered(fence: Fence | None) -> None:
            self._fence = fence
            self._feed(NotTaken() if fence is None else Taken(fence.epoch, sent_at))

        take = partial(self._server.take, self._session, seen)
        self.link.ask(self._life, take, answered, lambda _: self._feed(NotTaken()))

    def _renew(self) -> None:
        sent_at = self.monotonic()
        renew = partial(self._server.renew, self._session)
        self.link.ask(self._life, renew, lambda _: self._feed(Renewed(sent_at)), self._not_renewed)

    def _not_renewed(self, error: Exception) -> None:
        if isinstance(error, StoreRefused):
            self._replaced()
        else:
            self._feed(NotRenewed())

    def _replaced(self) -> None:
        self._refused(self.process)
        self._feed(Replaced())

    # A term.

    def _begin_term(self) -> None:
        """Read what is missing, and serve."""

        def read(rows: Sequence[LogRow]) -> None:
            self._fold(rows)
            self._serve()

        def not_read(_: Exception) -> None:
            self._begin_term()

        if self._leads():
            rows_after = partial(self._server.rows_after, self._read)
            self.link.ask(self._life, rows_after, read, not_read)

    def _serve(self) -> None:
        if not self._leads():
            return
        assert self._state is not None
        assert self._fence is not None
        storage = FencedWrites(
            self.timeline,
            self.link,
            self._server,
            lambda: self._session,
            self._fence,
            self._state,
            self.monotonic,
            lambda sent_at: self._feed(Renewed(sent_at)),
            self._replaced,
        )
        self._state = None
        self.term = self._make_term(self, storage)
        self.term.start()

    def _leads(self) -> bool:
        return isinstance(self._leadership, decision.Leading)

    def _end_term(self) -> None:
        if self.term is not None:
            self.term.die()
            self.term = None

    def _drain(self) -> None:
        if self.term is None or self.term.is_idle:
            self._feed(Drained())
        else:
            self.timeline.after(_DRAIN_LOOK, self._life, self._drain)

    # Sessions with the store.

    def _open_session(self) -> None:
        """Open another session, in the place of the one before, whose end the server notices."""
        before, life, self._is_at_door = self._session, self._life, False
        self._session = Session(
            self.process,
            lambda: self.link.tell(life, partial(self._feed, Rang())),
            lambda: self._notified(life),
        )
        self._agenda.after(self._rng.randint(*_SESSION_ENDS), None, self._server.end, before)
        connect = partial(self._server.connect, self._session)
        self.link.ask(life, connect, _ignored, _ignored)

    def _session_broke(self) -> None:
        self._open_session()
        self._feed(SessionBroke())

    def _notified(self, life: NodeLifetime) -> None:
        if self._rng.random() >= _NOTICE_LOST:
            self.link.tell(life, self._grown)

    def _grown(self) -> None:
        if isinstance(self._leadership, Following):
            self._look()

    def _ask_door(self, call: Callable[[Session], None]) -> None:
        self.link.ask(self._life, partial(call, self._session), _ignored, _ignored)


def _hands_over(orders: Sequence[Order]) -> bool:
    return any(isinstance(order, HandOver) for order in orders)


def _nothing() -> None:
    """Do nothing."""


def _ignored(_: object) -> None:
    """Ignore it."""
