"""Hosts as a log has them, told to an engine that may dispatch them at other times, and under another policy.

While a host is dispatched when it was, with the soak that it had, it reports what it did, when it did. From the first
difference on: its failures, its switch and its probes keep their distance from the dispatch; a time in which it did
not answer keeps its place by the wall clock; it converges as long after its soak as it did. A host that no dispatch of
the log reached takes as long as half of the fleet's, and does not fail.
Source: docs/spec/forecast.md, Back-tests.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from attrs import Factory, define, evolve

from nixfleet_control_plane.engine.host_record import apply_fact
from nixfleet_control_plane.engine.state import HostKey
from nixfleet_control_plane.messages.inputs import HostEvents, Signed
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.backtest.recording import Played, Recording, Request
from nixfleet_forecast.draws import Drawn
from nixfleet_forecast.hosts import DrawnHosts
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationFailed,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    OnHealthFailure,
    Postponed,
    ProbeFailureFirst,
    ProbeObservedFirst,
    ProbeResult,
    ProbeTopologyDeclared,
    Recalled,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope, Dispatch
from nixfleet_state_machine.host.convergence import first_broken_rule, soak_end_of
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.passing_time import SILENT_AFTER
from nixfleet_state_machine.rollout.event import Stage

_NOTHING_SIGNED: Final = Signed(b'{"events":[]}', None)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_TRIES_MAX: Final = 120
_BETWEEN_TRIES: Final = timedelta(seconds=30)
_USUAL_ACK: Final = timedelta(seconds=30)


@define
class _Turn:
    """Where a host is in what is known of it. dispatches: how many it was given. told: of its requests.

    differs: whether it was dispatched otherwise than it was. number: of its present dispatch.
    """

    dispatches: int = 0
    told: int = 0
    differs: bool = False
    number: int = 0
    pending: set[int] = Factory(set[int])


class PlayedHosts:
    """All hosts of a log. invented: the hosts that no dispatch of the log reached, and that were taken to succeed.

    after: called with each host after it was told something. policy_of: what a failed host of a rollout does.
    """

    def __init__(
        self,
        ahead: Ahead,
        recording: Recording,
        draws: Drawn,
        policy_of: Callable[[RolloutId], OnHealthFailure],
        recorded_policy_of: Callable[[RolloutId], OnHealthFailure | None],
    ) -> None:
        self._ahead = ahead
        self._recording = recording
        self._draws = draws
        self._policy_of = policy_of
        self._recorded_policy_of = recorded_policy_of
        self._turns: dict[HostKey, _Turn] = {}
        self._drawn = DrawnHosts(ahead, draws, recording.durations)
        self._by_drawn = self._drawn.dispatched
        self.invented = set[HostKey]()
        self._speaking: HostKey | None = None
        self.after: Callable[[HostKey], object] = lambda _: None
        self._drawn.on_told = lambda key: self.after(key)

    @property
    def speaking(self) -> HostKey | None:
        """The host that reports now."""
        return self._speaking or self._drawn.speaking

    def start(self) -> None:
        """Do what hosts do from now on. What they said before any dispatch is said when it was."""
        self._ahead.on_queued = self._queued
        for key, played in self._recording.hosts.items():
            first = played.queued[0].seq if played.queued else None
            for index, request in enumerate(played.requests):
                if first is None or request.seq < first:
                    self._as_recorded(key, index, request)

    def _queued(self, dispatch: Dispatch) -> None:
        key = RolloutId(dispatch.rollout_id), dispatch.hostname
        turn = self._turns.setdefault(key, _Turn())
        number, turn.dispatches = turn.dispatches, turn.dispatches + 1
        turn.number += 1
        played = self._recording.hosts.get(key)
        if played is None or not played.queued:
            if played is not None and played.requests:
                return  # It said what it said without being dispatched, and does so again.
            self.invented.add(key)
            self._by_drawn(dispatch)
            return
        if not turn.differs and self._is_as_recorded(played, number, dispatch):
            for index, request in self._between(played, number):
                self._as_recorded(key, index, request)
            return
        turn.differs = True
        self._differently(key, turn, played)

    def _is_as_recorded(self, played: Played, number: int, dispatch: Dispatch) -> bool:
        if number >= len(played.queued):
            return False
        queued = played.queued[number]
        rollout_id = RolloutId(dispatch.rollout_id)
        return (
            queued.at == self._ahead.now
            and queued.soak_due_at == dispatch.soak_due_at
            and self._policy_of(rollout_id) is self._recorded_policy_of(rollout_id)
        )

    def _between(self, played: Played, number: int) -> Iterator[tuple[int, Request]]:
        """Yield what was said between a dispatch and the next one."""
        begins = played.queued[number].seq
        is_last = number + 1 == len(played.queued)
        ends = None if is_last else played.queued[number + 1].seq
        for index, request in enumerate(played.requests):
            if request.seq > begins and (ends is None or request.seq < ends):
                yield index, request

    # As it was.

    def _as_recorded(self, key: HostKey, index: int, request: Request) -> None:
        self._ahead.at(request.place, partial(self._say_recorded, key, index, request), request.seq)

    def _say_recorded(self, key: HostKey, index: int, request: Request) -> None:
        turn = self._turns.setdefault(key, _Turn())
        if turn.differs:
            return
        self._ahead.now = request.at
        turn.told = index + 1
        rollout_id, hostname = key
        envelopes = tuple(AgentEventEnvelope(hostname, rollout_id, it) for it in request.facts)
        self._report(key, envelopes)

    # As it may have been.

    def _differently(self, key: HostKey, turn: _Turn, played: Played) -> None:
        facts = tuple(_from_ack(played, turn.told))
        if not facts:
            facts = tuple(_last_attempt(played))
        if not facts:
            return  # It never answered, and does not now.
        now = self._ahead.now
        (ack_request, _), *_ = facts
        ack_at = self._acknowledged_at(key[1], played, ack_request, now)
        turn.told = max(turn.told, played.requests.index(facts[-1][0]) + 1)
        number = turn.number
        for request, fact in facts:
            at = ack_at + (request.at - ack_request.at)
            if not isinstance(fact, Converged | Postponed):
                self._ahead.at(at, partial(self._tell, key, number, fact, request))
        lag = _lag_of(facts)
        may_converge = lag is not None or any(isinstance(it, Failed | Regressed) for _, it in facts)
        if may_converge:
            usual = timedelta(seconds=self._draws.draw(Stage.CONVERGENCE, key[1]) or 0.0)
            switched = [r.at for r, it in facts if isinstance(it, ActivationCompleted)]
            if switched:
                at = ack_at + (switched[0] - ack_request.at)
                again = partial(self._soak, key, number, usual if lag is None else lag)
                self._ahead.at(at, again)

    def _heard_before(self, hostname: str, ack: Request) -> datetime:
        """Return when the log has something of the host last, before it acknowledged."""
        times = self._recording.heard.get(hostname, [])
        place = bisect_left(times, ack.at)
        return times[place - 1] if place else _NEVER

    def _acknowledged_at(
        self, hostname: str, played: Played, ack: Request, now: datetime
    ) -> datetime:
        """Return when a host that is dispatched now acknowledges: when it did, if it did not answer at this time.

        One that let a dispatch wait is taken to have been away since the log has something of it.
        """
        before = [it for it in played.queued if it.seq < ack.seq]
        if not before:
            return now + _USUAL_ACK
        took = ack.at - before[-1].at
        earlier = [it.seq for it in played.requests if it.seq < ack.seq]
        waited = [it for it in before if not earlier or it.seq > earlier[-1]] or before[-1:]
        is_away = ack.at - waited[0].at > SILENT_AFTER
        if is_away and self._heard_before(hostname, ack) <= now < ack.at:
            return ack.at
        return now + (_USUAL_ACK if took > SILENT_AFTER else took)

    def _tell(self, key: HostKey, number: int, fact: AgentEvent, request: Request) -> None:
        record = self._record(key, number)
        if record is None:
            return
        now = self._ahead.now
        policy = self._policy_of(key[0])
        told = _fitted(fact, record, now, request.at, policy, self._attempt(key))
        if told is not None and self._say(key, record, told):
            is_failure = isinstance(told, Failed | Regressed)
            if is_failure and policy is OnHealthFailure.ROLLBACK_AND_HALT:
                seconds = self._draws.draw(Stage.ACTIVATION, key[1]) or 60.0
                self._ahead.at(now + timedelta(seconds=seconds), partial(self._back, key, number))

    def _soak(self, key: HostKey, number: int, lag: timedelta) -> None:
        record = self._record(key, number)
        if record is None or record.state is not HostState.SOAKING:
            return
        due = max(soak_end_of(record) or self._ahead.now, self._ahead.now)
        self._ahead.at(due + lag, partial(self._converge, key, number))

    def _converge(self, key: HostKey, number: int, tries: int = 0) -> None:
        record = self._record(key, number)
        if record is None or record.state is not HostState.SOAKING:
            return
        now = self._ahead.now
        if first_broken_rule(record, record.target_closure, now) is None:
            self._say(key, record, Converged(now, record.target_closure, 1))
        elif tries < _TRIES_MAX:  # A probe has not passed yet.
            again = partial(self._converge, key, number, tries + 1)
            self._ahead.at(now + _BETWEEN_TRIES, again)

    def _back(self, key: HostKey, number: int) -> None:
        record = self._record(key, number)
        if record is not None and record.is_rolling_back:
            back = record.current_closure_at_dispatch or record.target_closure
            self._say(key, record, RollbackComplete(back, 0, self._ahead.now, 1))

    def _say(self, key: HostKey, record: HostRolloutState, fact: AgentEvent) -> bool:
        """Tell a fact by its next number, if it applies; return whether it was."""
        numbered = evolve(fact, seq=record.last_event_seq + 1)
        policy = self._ahead.state.manifests[key[0]].manifest.rollout_policy
        try:
            apply_fact(record, numbered, self._ahead.now, policy)
        except TransitionError:
            return False
        envelope = AgentEventEnvelope(key[1], key[0], numbered)
        self._report(key, (envelope,))
        return True

    def _report(self, key: HostKey, envelopes: tuple[AgentEventEnvelope, ...]) -> None:
        self._speaking = key
        self._ahead.tell(HostEvents(key[1], envelopes, _NOTHING_SIGNED))
        self._speaking = None
        self.after(key)

    def _record(self, key: HostKey, number: int) -> HostRolloutState | None:
        view = self._ahead.state.view
        if key[0] not in view.open_rollouts or self._turns[key].number != number:
            return None
        return view.host(*key)

    def _attempt(self, key: HostKey) -> int:
        return self._ahead.state.view.rollouts[key[0]].attempt_of(key[1])


def _from_ack(played: Played, begin: int) -> Iterator[tuple[Request, AgentEvent]]:
    """Yield what was said from the next acknowledgement on, up to the one after it."""
    is_begun = False
    for request in played.requests[begin:]:
        for fact in request.facts:
            if isinstance(fact, DispatchAck):
                if is_begun:
                    return
                is_begun = True
            if is_begun:
                yield request, fact


def _last_attempt(played: Played) -> Iterator[tuple[Request, AgentEvent]]:
    """Yield what was said from the last acknowledgement on: a further attempt ends as the last one did."""
    acks = [
        index
        for index, request in enumerate(played.requests)
        if any(isinstance(fact, DispatchAck) for fact in request.facts)
    ]
    return _from_ack(played, acks[-1]) if acks else iter(())


def _lag_of(facts: tuple[tuple[Request, AgentEvent], ...]) -> timedelta | None:
    """Return how long after its soak the host converged; `None`: it did not."""
    for request, fact in facts:
        if isinstance(fact, Converged):
            ends_at = request.soak_ends_at
            return timedelta(0) if ends_at is None else max(timedelta(0), request.at - ends_at)
    return None


def _fitted(
    fact: AgentEvent,
    record: HostRolloutState,
    now: datetime,
    was_at: datetime,
    policy: OnHealthFailure,
    attempt: int,
) -> AgentEvent | None:
    """Return what the host says in place of `fact`, dated as long before its receipt as it was; `None`: nothing."""
    match fact:
        case DispatchAck():
            numbered = None if attempt == 1 else attempt
            return evolve(fact, received_at=now, attempt=numbered)
        case ActivationStarted():
            return evolve(fact, started_at=now)
        case ActivationCompleted():
            return evolve(fact, completed_at=now)
        case ActivationFailed():
            return evolve(fact, failed_at=now)
        case ActivationDeferred():
            return evolve(fact, deferred_at=now)
        case ProbeTopologyDeclared():
            return evolve(fact, declared_at=now)
        case ProbeObservedFirst() | ProbeResult():
            return evolve(fact, observed_at=now)
        case ProbeFailureFirst():
            return evolve(fact, first_failed_at=now)
        case Failed() | Regressed():
            return _failure(fact, record, now, policy)
        case Recalled():
            return evolve(fact, recalled_at=now)
        case RollbackComplete() | Converged() | Postponed():
            return None  # These follow from its policy and its soak, and from no lock that is known of.


def _failure(
    fact: Failed | Regressed, record: HostRolloutState, now: datetime, policy: OnHealthFailure
) -> Failed | Regressed | None:
    lasted, probes = fact.sustained_duration_secs, fact.failing_probes
    if record.state is HostState.SOAKING:
        return Failed(now, lasted, probes, policy, 1)
    if record.state is HostState.CONVERGED:
        return Regressed(now, lasted, probes, policy, 1)
    return None
