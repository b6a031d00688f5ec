"""The control plane's process in virtual time: the production engine and store behind a simulated shell.

What `nixfleet_control_plane.service` does with tasks is done here with the agenda: one mutator, polls that
wait and are woken by name, a tick. It dies between any two steps, and starts again from what its disk has.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from typing import Protocol, TypeAlias, assert_never

from attrs import frozen

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.guard_verdicts import AskedCheck
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.feed import Feed
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.http.enrollment_problems import problem_of
from nixfleet_control_plane.http.listed_lines import listed_lines
from nixfleet_control_plane.messages.inputs import (
    Action,
    DispatchAnswer,
    DispatchPoll,
    EnrollHost,
    EnrollOutcome,
    FlushRecords,
    HostEvents,
    Input,
    ManifestAnswer,
    ManifestPoll,
    PlanTick,
    Reply,
    UseKeys,
    WakeHost,
)
from nixfleet_control_plane.messages.key_ring import EnrolledHost, KeyRing
from nixfleet_control_plane.messages.log_entry import LogRow
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.service import FLUSH_PORTION
from nixfleet_control_plane.store.queries import log_rows_query, open_for_reading
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_proto.errors import NixfleetError
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.trust import TrustRoot
from nixfleet_runtime.http.headers import RETRY_AFTER
from nixfleet_runtime.http.listings import FeedPage
from nixfleet_runtime.http.signing.refusal import RequestRefused
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply, TransportFailed
from nixfleet_simulation.nodes.agenda import SECOND, NodeLifetime, Timeline
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.nodes.disk import Disk
from nixfleet_simulation.nodes.mutator import Handled, Mutator, Shell
from nixfleet_simulation.nodes.network import Answer, Call, Enrolled
from nixfleet_simulation.nodes.signed_requests import (
    AskDispatch,
    FetchManifest,
    Request,
    RequestGate,
    SendEvents,
    Signatures,
    SignedRequest,
)
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.acts import CONTROL_PLANE, Boundary
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric

HandledInput: TypeAlias = Handled[Input, Write, Reply, Action]
ControlPlaneDisk: TypeAlias = Disk[Write, SqliteStore]

RETRY_AFTER_SECONDS = 5.0


class NotCurrent(NixfleetError):
    """What is in memory may be older than what the store has."""


class Watcher(Protocol):
    """Observes what a control plane does, for the judge."""

    def control_plane_kept(self, handled: Sequence[HandledInput], state: State) -> None:
        """These inputs were handled, in order, and their commits are durable."""
        ...

    def request_accepted(self, signed: SignedRequest, now: datetime) -> None:
        """A request was accepted as its host's. now: by the control plane's clock."""
        ...

    def answer_sent(self, hostname: str, request: Request, answer: Answer) -> None:
        """An answer is sent."""
        ...

    def enrollment_refused(self, request: EnrollRequest, reason: str, at: datetime) -> None:
        """An enrollment is refused. at: by the control plane's clock."""
        ...

    def control_plane_started(self, state: State, at: datetime) -> None:
        """A control plane started and loaded `state`. at: by its clock."""
        ...

    def engine_raised(self, who: str, input: object, error: Exception) -> None:
        """An engine raised on an input: a bug."""
        ...


class ControlPlaneNode(Protocol):
    """The control plane, as the rest of the world sees it: one process, or several on one store.

    is_up: whether one serves. starts: how often one began to. state: of the one that serves, or did last.
    """

    clock: NodeClock
    disk: ControlPlaneDisk
    boundaries: CrashBoundaries
    on_death: Callable[[], None]
    on_start: Callable[[], None]

    @property
    def is_up(self) -> bool: ...

    @property
    def starts(self) -> int: ...

    @property
    def state(self) -> State: ...

    def start(self) -> None:
        """Start what is down."""
        ...

    def die(self, *, write_survives: bool = False) -> None:
        """Stop the one that serves, as in a loss of power."""
        ...

    def receive(self, call: Call) -> None:
        """A request arrived."""
        ...

    def post(
        self,
        input: Input,
        then: Callable[[Reply], None] = lambda _: None,
        failed: Callable[[Exception], None] = lambda _: None,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Post `input`, if one serves."""
        ...

    def asked_checks(self) -> tuple[AskedCheck, ...]:
        """Return the checks whose judges are to be asked."""
        ...

    def log_page(self, after: int, rows_max: int) -> FeedPage | None:
        """Return what a client of the feed gets; `None`: none serves."""
        ...


class Storage(Protocol):
    """What a control plane loads from, and writes to."""

    def load(self) -> State:
        """Return the state as of everything that is durable."""
        ...

    def write(
        self,
        life: NodeLifetime,
        writes: tuple[Write, ...],
        keep: Callable[[], None],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """As `Disk.write`."""
        ...

    def cut_off(self, *, write_survives: bool) -> None:
        """As `Disk.cut_off`."""
        ...


@frozen
class OwnDisk:
    """The storage of a control plane that has its database alone."""

    disk: ControlPlaneDisk
    loaded: Callable[[SqliteStore], State] = load_state

    def load(self) -> State:
        """As `Storage.load`. Raises: the errors of `load_state`."""
        return self.loaded(self.disk.reopened())

    def write(
        self,
        life: NodeLifetime,
        writes: tuple[Write, ...],
        keep: Callable[[], None],
        then: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """As `Disk.write`."""
        self.disk.write(life, writes, keep, then, failed)

    def cut_off(self, *, write_survives: bool) -> None:
        """As `Disk.cut_off`."""
        self.disk.cut_off(write_survives=write_survives)


class ControlPlane:
    """A control plane that serves. make_engine: for tests, which plant bugs in it.

    storage: if its database is not its own disk's. is_current: whether it may answer from memory.
    """

    def __init__(
        self,
        agenda: Timeline,
        clock: NodeClock,
        disk: ControlPlaneDisk,
        trace: Trace,
        watcher: Watcher,
        tick_seconds: float,
        trust: Callable[[], TrustRoot],
        signatures: Signatures,
        make_engine: Callable[[State], ControlPlaneEngine],
        load: Callable[[SqliteStore], State] = load_state,
        die_at: int | None = None,
        *,
        storage: Storage | None = None,
        is_current: Callable[[], bool] = lambda: True,
        name: str = CONTROL_PLANE,
    ) -> None:
        self.clock = clock
        self.disk = disk
        self.is_up = False
        self.starts = 0
        self.boundaries = CrashBoundaries(self._die_there, die_at)
        self.on_death: Callable[[], None] = lambda: None
        self.on_start: Callable[[], None] = lambda: None
        self.state: State
        self.feed = Feed()
        self._agenda = agenda
        self._trace = trace
        self._watcher = watcher
        self._tick_after = int(tick_seconds * SECOND)
        self._trust = trust
        self._signatures = signatures
        self._make_engine = make_engine
        self._storage = storage or OwnDisk(disk, load)
        self._is_current = is_current
        self._name = name
        self._life = NodeLifetime()
        self._mutator: Mutator[Input, Write, Reply, Action]
        self._polls: dict[str, list[_Poll]] = {}
        self._ring = KeyRing()
        self._engine: ControlPlaneEngine
        self._gate: RequestGate

    # NodeLifetime and death.

    def start(self) -> None:
        """Start with what the storage has. Raises: the errors of `load_state`."""
        self.state = self._storage.load()
        self._ring = self.state.identities.ring
        self._gate = RequestGate(self._signatures.check, self.clock.now())
        self._life = NodeLifetime()
        self.is_up = True
        self.starts += 1
        self.feed = Feed(self.state.head_seq)
        self._trace.narrate(self._name, f"starts; its log goes up to row {self.state.head_seq}")
        self._watcher.control_plane_started(self.state, self.clock.now())
        shell = Shell[Input, Write, Reply, Action](
            self._agenda,
            self._life,
            self.clock,
            self._storage.write,
            self._carry_out,
            self.boundaries,
            self._kept,
            partial(self._watcher.engine_raised, CONTROL_PLANE),
        )
        self._engine = self._make_engine(self.state)
        self._engine.use_trust(self._trust())
        self._mutator = Mutator(self._engine, shell)
        self._agenda.after(self._tick_after, self._life, self._tick)
        self.on_start()

    def die(self, *, write_survives: bool = False) -> None:
        """Stop, as in a loss of power."""
        if not self.is_up:
            return
        self._life.is_over = True
        self.is_up = False
        self.boundaries.armed = None
        self._storage.cut_off(write_survives=write_survives)
        self._polls.clear()
        self._trace.narrate(self._name, "dies")

    def _die_there(self, boundary: Boundary) -> None:
        self._trace.narrate(self._name, f"reaches the boundary of its crash: {boundary.value}")
        self.on_death()

    # Requests of hosts.

    def receive(self, call: Call) -> None:
        """A request arrived."""
        if not self.is_up:
            call.break_off(TransportFailed("connection refused", kind="ConnectError"))
            return
        if not self._is_current():
            self._fail(call, NotCurrent("another control plane may lead"))
            return
        try:
            self._begin_answer(call)
        except RequestRefused as refused:
            call.refuse(refused.as_problem(), _retry_after_seconds(refused.headers))

    def _begin_answer(self, call: Call) -> None:
        """Begin to answer a request, if it may be carried out. Raises: RequestRefused."""
        request, now = call.request, self.clock.now()
        if isinstance(request, EnrollRequest):
            self._enroll(call, request, now)
            return
        self._gate.require_host(call.signed, self._ring, now)
        self._watcher.request_accepted(call.signed, now)
        match request:
            case SendEvents():
                self._ask(call, HostEvents(call.hostname, request.envelopes))
            case AskDispatch():
                self._wait_for_dispatch(call, request.wait)
            case FetchManifest():
                self._ask(call, ManifestPoll(request.rollout_id, call.hostname))
            case Heartbeat():
                assert request.hostname == call.hostname, request  # Else 403.
                self._ask(call, request)
            case _:
                assert_never(request)

    def _enroll(self, call: Call, request: EnrollRequest, now: datetime) -> None:
        """As `http.routes.enrollment`."""
        objection = self._engine.token_objection(request)
        if objection is not None:
            self._watcher.enrollment_refused(request, str(objection), now)
            call.refuse(problem_of(objection))
            return
        signer = self._gate.enrolling_key(call.signed, request, now)
        self._mutator.post(
            EnrollHost(request, signer),
            partial(self._enrolled, call, request),
            partial(self._fail, call),
        )

    def _enrolled(self, call: Call, request: EnrollRequest, reply: Reply) -> None:
        assert isinstance(reply, EnrollOutcome), reply
        if self.boundaries.cross(Boundary.BEFORE_SEND):
            return
        if isinstance(reply.answer, EnrolledHost):
            call.answer(Enrolled())
        else:
            self._watcher.enrollment_refused(request, str(reply.answer), self.clock.now())
            call.refuse(problem_of(reply.answer))

    def _ask(self, call: Call, input: Input) -> None:
        self._mutator.post(input, partial(self._answer, call), partial(self._fail, call))

    def _answer(self, call: Call, reply: Reply) -> None:
        assert isinstance(reply, EventsOutcome | HeartbeatReply | ManifestAnswer | DispatchAnswer)
        if not self._is_current():
            self._fail(call, NotCurrent("another control plane may lead"))
        elif not self.boundaries.cross(Boundary.BEFORE_SEND):
            self._watcher.answer_sent(call.hostname, call.request, reply)
            call.answer(reply)

    def _fail(self, call: Call, error: Exception) -> None:
        call.fail(503, str(error), RETRY_AFTER_SECONDS)

    # Polls that wait.

    def _wait_for_dispatch(self, call: Call, wait: int) -> None:
        poll = _Poll(call, self._agenda.now + wait)
        self._polls.setdefault(call.hostname, []).append(poll)
        self._ask_for(poll)

    def _ask_for(self, poll: "_Poll") -> None:
        poll.is_woken = False
        poll.is_asking = True
        self._mutator.post(
            DispatchPoll(poll.call.hostname),
            partial(self._polled, poll),
            partial(self._poll_failed, poll),
        )

    def _polled(self, poll: "_Poll", reply: Reply) -> None:
        assert isinstance(reply, DispatchAnswer), reply
        poll.is_asking = False
        left = poll.until - self._agenda.now
        if reply.dispatch is not None or left <= 0:
            self._forget(poll)
            self._answer(poll.call, reply)
        elif poll.is_woken:
            self._ask_for(poll)
        else:
            self._agenda.after(left, poll, self._poll_ends, poll)

    def _poll_ends(self, poll: "_Poll") -> None:
        if not poll.is_asking and poll in self._polls.get(poll.call.hostname, ()):
            self._forget(poll)
            self._answer(poll.call, DispatchAnswer(None))

    def _poll_failed(self, poll: "_Poll", error: Exception) -> None:
        self._forget(poll)
        self._fail(poll.call, error)

    def _forget(self, poll: "_Poll") -> None:
        poll.is_over = True
        self._polls[poll.call.hostname].remove(poll)

    def _wake(self, hostname: str) -> None:
        for poll in self._polls.get(hostname, ()):
            poll.is_woken = True
            if not poll.is_asking:
                self._ask_for(poll)

    # Inputs of CI, operators and time.

    def post(
        self,
        input: Input,
        then: Callable[[Reply], None] = lambda _: None,
        failed: Callable[[Exception], None] = lambda _: None,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Post `input`, if the process is running."""
        if self.is_up:
            self._mutator.post(input, then, failed, is_urgent=is_urgent)

    @property
    def is_idle(self) -> bool:
        """Whether every request but the polls that wait is answered."""
        return self._mutator.is_idle

    def asked_checks(self) -> tuple[AskedCheck, ...]:
        """Return the checks whose judges are to be asked."""
        return self._engine.asked_checks()

    def _tick(self) -> None:
        self._mutator.post(PlanTick(), self._ticked, self._tick_failed)

    def _ticked(self, _: Reply) -> None:
        self._mutator.post(FlushRecords(FLUSH_PORTION), self._flushed, self._tick_failed)

    def _flushed(self, _: Reply) -> None:
        self._agenda.after(self._tick_after, self._life, self._tick)

    def _tick_failed(self, _: Exception) -> None:
        self._agenda.after(self._tick_after, self._life, self._tick)

    # The feed.

    def log_page(self, after: int, rows_max: int) -> FeedPage | None:
        """Return the lines of up to so many rows after a row; `None`: the process does not run."""
        if not self.is_up:
            return None
        rows = self.feed.after(after, rows_max)
        if rows is None:
            self.disk.database()
            with closing(open_for_reading(self.disk.path)) as connection:
                rows = log_rows_query(None, after_seq=after, limit=rows_max).of(connection)
        lines = tuple(line for row in rows for line in listed_lines(row, _asks_nothing))
        return FeedPage(lines, rows[-1].seq if rows else after, self.feed.head)

    # What commits lead to.

    def _kept(self, handled: Sequence[HandledInput]) -> None:
        writes = (write for each in handled for write in each.commit.writes)
        self.feed.add(write for write in writes if isinstance(write, LogRow))
        self._watcher.control_plane_kept(handled, self.state)

    def _carry_out(self, action: Action) -> None:
        match action:
            case WakeHost():
                self._wake(action.hostname)
            case UseKeys():
                self._ring = action.ring
            case EmitMetric() | EmitLog():
                pass
            case _:
                assert_never(action)


def _asks_nothing(rollout_id: RolloutId, wave: int) -> bool:
    """Return whether a wave waits for approvals, which decides about the type of one kind of lines alone."""
    return False


def _retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    asked = headers.get(RETRY_AFTER)
    return None if asked is None else float(asked)


class _Poll(NodeLifetime):
    """A host that waits for a dispatch. until: when its wait ends."""

    __slots__ = ("call", "is_asking", "is_woken", "until")

    def __init__(self, call: Call, until: int) -> None:
        super().__init__()
        self.call = call
        self.until = until
        self.is_asking = False
        self.is_woken = False
