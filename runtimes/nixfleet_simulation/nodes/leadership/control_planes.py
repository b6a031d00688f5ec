"""Several control planes on one store, as the rest of the world sees them: one that serves, somewhere.

A host asks the one that answered it last, and turns to another when it gets no answer. People and CI do likewise.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TypeAlias

from attrs import frozen

from nixfleet_control_plane.engine.guard_verdicts import AskedCheck
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.leadership.lease import LeaseTerms
from nixfleet_control_plane.messages.inputs import Input, Reply
from nixfleet_proto.enrollment import EnrollRequest
from nixfleet_runtime.http.listings import FeedPage
from nixfleet_runtime.transport import EventsOutcome
from nixfleet_simulation.judge.model.leadership import LeadershipModel
from nixfleet_simulation.nodes.agenda import SECOND, Agenda
from nixfleet_simulation.nodes.clock import NodeClock
from nixfleet_simulation.nodes.control_plane import (
    ControlPlane,
    ControlPlaneDisk,
    HandledInput,
    Storage,
    Watcher,
)
from nixfleet_simulation.nodes.crash_boundaries import CrashBoundaries
from nixfleet_simulation.nodes.leadership.participant import Participant
from nixfleet_simulation.nodes.leadership.store_server import StoreServer
from nixfleet_simulation.nodes.network import Answer, Call, Failure
from nixfleet_simulation.nodes.signed_requests import Request, SendEvents, SignedRequest
from nixfleet_simulation.nodes.trace import Trace
from nixfleet_simulation.scenario.acts import Boundary
from nixfleet_simulation.scenario.leadership_acts import CONTROL_PLANES, LEADER
from nixfleet_simulation.scenario.randomness import Seed, stream

LOOK_SECONDS = 0.25
SKEW_MAX = 2 * SECOND


class ControlPlanes:
    """Implements `ControlPlaneNode`. make: makes what serves, from its clock, storage, watcher and name.

    server: the store's. participants: by name.
    """

    def __init__(
        self,
        agenda: Agenda,
        seed: Seed,
        disk: ControlPlaneDisk,
        trace: Trace,
        watcher: Watcher,
        model: LeadershipModel,
        make: "MakeControlPlane",
        die_at: int | None = None,
    ) -> None:
        self.disk = disk
        self.on_death: Callable[[], None] = lambda: None
        self.on_start: Callable[[], None] = lambda: None
        self.boundaries = CrashBoundaries(self._die_there, die_at)
        self.server = StoreServer(agenda, disk, LeaseTerms(), self)
        self._agenda = agenda
        self._trace = trace
        self._watcher = watcher
        self._model = model
        self._make = make
        self._starts = 0
        self._last_state = State()
        self._asked: dict[str, int] = {}
        self.participants: dict[str, Participant] = {}
        for name in CONTROL_PLANES:
            rng = stream(seed, "leadership", name)
            self.participants[name] = Participant(
                name,
                agenda,
                NodeClock(agenda, rng.randint(-SKEW_MAX, SKEW_MAX)),
                rng,
                self.server,
                LeaseTerms(),
                trace,
                self._made_term,
                model.refused,
            )
        self._clock = _ClockOfTheLeader(agenda, tuple(self.participants.values()))
        self.clock: NodeClock = self._clock
        agenda.after(0, None, self._look)

    @property
    def serving(self) -> Participant | None:
        """The one that serves, if one does."""
        serving = (each for each in self.participants.values() if each.is_serving)
        return next((each for each in serving if not each.is_standing_still), None)

    def named(self, node: str) -> Participant:
        """Return the participant of that name; of `LEADER`, the one that serves, or else the first."""
        if node == LEADER:
            return self.serving or next(iter(self.participants.values()))
        return self.participants[node]

    @property
    def is_up(self) -> bool:
        """Whether one serves."""
        return self.serving is not None

    @property
    def starts(self) -> int:
        """How often one began to serve."""
        return self._starts

    @property
    def state(self) -> State:
        """The state of the one that began to serve last."""
        return self._last_state

    def start(self) -> None:
        """Start every process that is down."""
        for each in self.participants.values():
            if not each.is_up:
                each.start()

    def die(self, *, write_survives: bool = False) -> None:
        """End the process of the one that serves."""
        serving = self.serving
        if serving is not None:
            serving.die()

    def end_faults(self) -> None:
        """Let all processes go on, and reach the store."""
        self.server.start()
        for each in self.participants.values():
            each.link.cuts.clear()
            each.go_on()

    # Requests.

    def receive(self, call: Call) -> None:
        """A request arrives at the one that answered its host last; one that does not lead sends it to the next."""
        self._ask(call, self._asked.get(call.hostname, 0), len(self.participants))

    def _ask(self, call: Call, index: int, left: int) -> None:
        index %= len(self.participants)
        participant = tuple(self.participants.values())[index]

        def failed(failure: Failure) -> None:
            if not participant.is_serving:
                self._asked[call.hostname] = index + 1
            call.break_off(failure)

        if participant.is_standing_still:
            self._asked[call.hostname] = (
                index + 1
            )  # Its host hears nothing, and asks another one next.
        passed_on = Call(call.signed, call.answer, failed)
        arrives = partial(self._arrive, participant, passed_on, index, left)
        participant.timeline.happen(None, arrives)

    def _arrive(self, participant: Participant, call: Call, index: int, left: int) -> None:
        if participant.term is not None:
            participant.term.receive(call)
        elif left > 1:
            self._asked[call.hostname] = index + 1
            self._ask(call, index + 1, left - 1)
        else:
            call.fail(503, "no control plane leads")

    def post(
        self,
        input: Input,
        then: Callable[[Reply], None] = lambda _: None,
        failed: Callable[[Exception], None] = lambda _: None,
        *,
        is_urgent: bool = False,
    ) -> None:
        """Post `input`, if one serves."""
        serving = self.serving
        if serving is not None and serving.term is not None:
            serving.term.post(input, then, failed, is_urgent=is_urgent)

    def asked_checks(self) -> tuple[AskedCheck, ...]:
        """Return the checks whose judges are to be asked."""
        serving = self.serving
        return () if serving is None or serving.term is None else serving.term.asked_checks()

    def log_page(self, after: int, rows_max: int) -> FeedPage | None:
        """Return what a client of the feed gets; `None`: none serves."""
        serving = self.serving
        if serving is None or serving.term is None:
            return None
        return serving.term.log_page(after, rows_max)

    # What the store says; implements `StoreWatcher`.

    def taken(self, process: str, now: float) -> None:
        """The store gave the lease to `process`. At that moment somebody asks every other one, too."""
        self._trace.narrate("store", f"gives the lease to {process}")
        self._model.taken(process, now)
        for each in self.participants.values():
            if each.process != process and each.is_serving and not each.is_standing_still:
                self._model.answered(each.process, "an operator")

    def given_away(self, process: str) -> None:
        """The store took the lease back from `process`."""
        self._trace.narrate("store", f"has the lease back from {process}")
        self._model.given_away(process)

    def durable(self, process: str) -> None:
        """A commit of `process` became durable."""
        self._model.durable(process)

    # Terms.

    def _made_term(self, participant: Participant, storage: Storage) -> ControlPlane:
        watcher = _WatcherOfOne(self._watcher, self._model, participant.process)
        term = self._make(participant, storage, watcher)
        term.boundaries = self.boundaries
        self._clock.switch(participant.clock.off_by)
        self._starts += 1
        return term

    def _die_there(self, boundary: Boundary) -> None:
        self._trace.narrate(LEADER, f"reaches the boundary of its crash: {boundary.value}")
        self.on_death()

    def _look(self) -> None:
        """Have the judge look whether one serves."""
        working = {
            each.process
            for each in self.participants.values()
            if self.server.is_up
            and each.is_up
            and not each.is_standing_still
            and not each.link.is_cut
        }
        serving = self.serving
        if serving is not None and serving.term is not None:
            self._last_state = serving.term.state
        found = set[str]() if serving is None else {serving.process}
        self._model.looked(self._agenda.now / SECOND, working, found)
        self._agenda.after(int(LOOK_SECONDS * SECOND), None, self._look)


MakeControlPlane: TypeAlias = Callable[[Participant, Storage, Watcher], ControlPlane]


class _ClockOfTheLeader(NodeClock):
    """The clock of the one that began to serve last. Who sets it, sets all of them."""

    def __init__(self, agenda: Agenda, participants: tuple[Participant, ...]) -> None:
        super().__init__(agenda)
        self._participants = participants

    def jump(self, by: int) -> None:
        super().jump(by)
        for each in self._participants:
            each.clock.jump(by)

    def set_right(self) -> None:
        self.switch(0)
        for each in self._participants:
            each.clock.set_right()

    def switch(self, off_by: int) -> None:
        """Be a clock that is ahead by `off_by`."""
        super().jump(off_by - self.off_by)


@frozen
class _WatcherOfOne:
    """A watcher of one process, which also tells the judge what it answers."""

    watcher: Watcher
    model: LeadershipModel
    process: str

    def control_plane_kept(self, handled: Sequence[HandledInput], state: State) -> None:
        """As `Watcher.control_plane_kept`."""
        self.watcher.control_plane_kept(handled, state)

    def request_accepted(self, signed: SignedRequest, now: datetime) -> None:
        """As `Watcher.request_accepted`."""
        self.watcher.request_accepted(signed, now)

    def answer_sent(self, hostname: str, request: Request, answer: Answer) -> None:
        """As `Watcher.answer_sent`. That a fact is in the log is no answer from memory."""
        is_success = isinstance(request, SendEvents) and answer == EventsOutcome(
            len(request.envelopes)
        )
        if not is_success:
            self.model.answered(self.process, f"{type(request).__name__} of {hostname}")
        self.watcher.answer_sent(hostname, request, answer)

    def enrollment_refused(self, request: EnrollRequest, reason: str, at: datetime) -> None:
        """As `Watcher.enrollment_refused`."""
        self.watcher.enrollment_refused(request, reason, at)

    def control_plane_started(self, state: State, at: datetime) -> None:
        """As `Watcher.control_plane_started`."""
        self.watcher.control_plane_started(state, at)

    def engine_raised(self, who: str, input: object, error: Exception) -> None:
        """As `Watcher.engine_raised`."""
        self.watcher.engine_raised(self.process, input, error)
