"""The control plane's process in virtual time: the production engine and store behind a simulated shell.

What `nixfleet_control_plane.service` does with tasks is done here with the agenda: one mutator, polls that
wait and are woken by name, a tick. It dies between any two steps, and starts again from what its disk has.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias, assert_never

from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.loading import load_state
from nixfleet_control_plane.messages.inputs import (
    Action,
    DispatchAnswer,
    DispatchPoll,
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
from nixfleet_control_plane.messages.key_ring import KeyRing
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.service import FLUSH_PORTION
from nixfleet_control_plane.store.sqlite_store import SqliteStore
from nixfleet_runtime.http.signing.key_id import host_key_id
from nixfleet_runtime.http.signing.refusal import RevokedKey
from nixfleet_runtime.transport import EventsOutcome, Heartbeat, HeartbeatReply
from nixfleet_simulation.nodes.agenda import SECOND, Agenda, NodeLifetime
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.nodes.disk import Disk
from nixfleet_simulation.nodes.mutator import Handled, Mutator, Shell
from nixfleet_simulation.nodes.network import (
    Answer,
    AskDispatch,
    Call,
    FetchManifest,
    Request,
    SendEvents,
)
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.acts import CONTROL_PLANE, Boundary
from nixfleet_state_machine.host.effect import EmitLog, EmitMetric

HandledInput: TypeAlias = Handled[Input, Write, Reply, Action]
ControlPlaneDisk: TypeAlias = Disk[Write, SqliteStore]

RETRY_AFTER_SECONDS = 5.0


class Watcher(Protocol):
    """Observes what a control plane does, for the judge."""

    def control_plane_kept(self, handled: Sequence[HandledInput], state: State) -> None:
        """These inputs were handled, in order, and their commits are durable."""
        ...

    def request_accepted(self, hostname: str) -> None:
        """A request of the host was accepted."""
        ...

    def answer_sent(self, hostname: str, request: Request, answer: Answer) -> None:
        """An answer is sent."""
        ...

    def control_plane_started(self, state: State) -> None:
        """A control plane started and loaded `state`."""
        ...

    def engine_raised(self, who: str, input: object, error: Exception) -> None:
        """An engine raised on an input: a bug."""
        ...


class ControlPlane:
    """The one control plane. make_engine: for tests, which plant bugs in it."""

    def __init__(
        self,
        agenda: Agenda,
        clock: NodeClock,
        disk: ControlPlaneDisk,
        trace: Trace,
        watcher: Watcher,
        tick_seconds: float,
        make_engine: Callable[[State], ControlPlaneEngine],
        load: Callable[[SqliteStore], State] = load_state,
        die_at: int | None = None,
    ) -> None:
        self.clock = clock
        self.disk = disk
        self.is_up = False
        self.starts = 0
        self.boundaries = CrashBoundaries(self._die_there, die_at)
        self.on_death: Callable[[], None] = lambda: None
        self.on_start: Callable[[], None] = lambda: None
        self.state: State
        self._agenda = agenda
        self._trace = trace
        self._watcher = watcher
        self._tick_after = int(tick_seconds * SECOND)
        self._make_engine = make_engine
        self._load = load
        self._life = NodeLifetime()
        self._mutator: Mutator[Input, Write, Reply, Action]
        self._polls: dict[str, list[_Poll]] = {}
        self._ring = KeyRing()
        self._known: dict[str, bool] = {}

    # NodeLifetime and death.

    def start(self) -> None:
        """Start with the contents of the disk. Raises: the errors of `load_state`."""
        self.state = self._load(self.disk.reopened())
        self._use(self.state.identities.ring)
        self._life = NodeLifetime()
        self.is_up = True
        self.starts += 1
        self._trace.narrate(CONTROL_PLANE, f"starts; its log goes up to row {self.state.head_seq}")
        self._watcher.control_plane_started(self.state)
        shell = Shell[Input, Write, Reply, Action](
            self._agenda,
            self._life,
            self.clock,
            self.disk.write,
            self._carry_out,
            self.boundaries,
            self._kept,
            partial(self._watcher.engine_raised, CONTROL_PLANE),
        )
        self._mutator = Mutator(self._make_engine(self.state), shell)
        self._agenda.after(self._tick_after, self._life, self._tick)
        self.on_start()

    def die(self, *, write_survives: bool = False) -> None:
        """Stop, as in a loss of power."""
        if not self.is_up:
            return
        self._life.is_over = True
        self.is_up = False
        self.boundaries.armed = None
        self.disk.cut_off(write_survives=write_survives)
        self._polls.clear()
        self._trace.narrate(CONTROL_PLANE, "dies")

    def _die_there(self, boundary: Boundary) -> None:
        self._trace.narrate(CONTROL_PLANE, f"reaches the boundary of its crash: {boundary.value}")
        self.on_death()

    # Requests of hosts.

    def receive(self, call: Call) -> None:
        """A request arrived."""
        if not self.is_up:
            call.fail("connection refused")
            return
        if not self._knows(call.hostname):
            call.fail("403: the key is revoked or not known")
            return
        self._watcher.request_accepted(call.hostname)
        request = call.request
        match request:
            case SendEvents():
                self._ask(call, HostEvents(call.hostname, request.envelopes))
            case AskDispatch():
                self._wait_for_dispatch(call, request.wait)
            case FetchManifest():
                self._ask(call, ManifestPoll(request.rollout_id, call.hostname))
            case Heartbeat():
                self._ask(call, request)
            case _:
                assert_never(request)

    def _knows(self, hostname: str) -> bool:
        """Return whether the host's key is in the ring. Requests are not signed and verified here."""
        known = self._known.get(hostname)
        if known is None:
            known = self._known[hostname] = self._is_in_ring(hostname)
        return known

    def _is_in_ring(self, hostname: str) -> bool:
        try:
            return self._ring.key_of(host_key_id(hostname)) is not None
        except RevokedKey:
            return False

    def _ask(self, call: Call, input: Input) -> None:
        self._mutator.post(input, partial(self._answer, call), partial(self._fail, call))

    def _answer(self, call: Call, reply: Reply) -> None:
        assert isinstance(reply, EventsOutcome | HeartbeatReply | ManifestAnswer | DispatchAnswer)
        if not self.boundaries.cross(Boundary.BEFORE_SEND):
            self._watcher.answer_sent(call.hostname, call.request, reply)
            call.answer(reply)

    def _fail(self, call: Call, error: Exception) -> None:
        call.fail(f"503: {error}", RETRY_AFTER_SECONDS)

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

    def _tick(self) -> None:
        self._mutator.post(PlanTick(), self._ticked, self._tick_failed)

    def _ticked(self, _: Reply) -> None:
        self._mutator.post(FlushRecords(FLUSH_PORTION), self._flushed, self._tick_failed)

    def _flushed(self, _: Reply) -> None:
        self._agenda.after(self._tick_after, self._life, self._tick)

    def _tick_failed(self, _: Exception) -> None:
        self._agenda.after(self._tick_after, self._life, self._tick)

    # What commits lead to.

    def _kept(self, handled: Sequence[HandledInput]) -> None:
        self._watcher.control_plane_kept(handled, self.state)

    def _use(self, ring: KeyRing) -> None:
        self._ring = ring
        self._known = {}

    def _carry_out(self, action: Action) -> None:
        match action:
            case WakeHost():
                self._wake(action.hostname)
            case UseKeys():
                self._use(action.ring)
            case EmitMetric() | EmitLog():
                pass
            case _:
                assert_never(action)


class _Poll(NodeLifetime):
    """A host that waits for a dispatch. until: when its wait ends."""

    __slots__ = ("call", "is_asking", "is_woken", "until")

    def __init__(self, call: Call, until: int) -> None:
        super().__init__()
        self.call = call
        self.until = until
        self.is_asking = False
        self.is_woken = False
