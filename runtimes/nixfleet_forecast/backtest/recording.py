"""What came from outside in a log: artefacts, commands, statements, what hosts reported, and when the clock was looked
at. What the control plane decided is left out, but for when it dispatched whom.

Told to the same engine at the same times, it gives the same log: that is the law of back-tests.
Source: docs/spec/forecast.md, Back-tests.
"""

from bisect import bisect_left
from datetime import UTC, datetime
from typing import Final, TypeAlias

from attrs import Factory, define, evolve, frozen

from nixfleet_control_plane.engine.state import HostKey, State
from nixfleet_control_plane.history.follower import Replay
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.inputs import OperatorCommand
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    Commanded,
    Deferred,
    Entry,
    FactReported,
    FactsReported,
    HoldMoved,
    HostEnrolled,
    IdentityForked,
    LogRow,
    Planned,
    Returned,
    RolloutMoved,
)
from nixfleet_forecast.course import GOING
from nixfleet_forecast.durations import Durations
from nixfleet_proto.agent_event import AgentEvent, Converged, OnHealthFailure
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import BAKE
from nixfleet_state_machine.host.convergence import soak_end_of
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.action import QueueDispatch
from nixfleet_state_machine.planner.deadlines import BACKOFF_OVER
from nixfleet_state_machine.planner.passing_time import next_time
from nixfleet_state_machine.planner.standings import HEARD_AGAIN
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    HostDrifted,
    HostsLapsed,
    RetentionExpired,
    RetryOrdered,
    StandingChanged,
    Verdict,
    subject_of,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome

_DRIFTED: Final = "it runs "
_FIRST: Final = datetime.min.replace(tzinfo=UTC)


@frozen
class Artefacts:
    """What CI published, taken together."""

    taken: tuple[ArtefactTaken, ...]


@frozen
class Heard:
    """A heartbeat gave a host back, or showed a drift or its end."""

    event: StandingChanged | HostDrifted | DriftEnded


@frozen
class Verdicts:
    """What a judge or an operator said of guards, together."""

    said: tuple[Verdict, ...]


@frozen
class Looked:
    """The clock was looked at. heard, silent: the hosts that were known to be on then, and those that were not."""

    heard: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


@frozen
class PlanAsked:
    """The planner was asked, and the clock had begun or ended a hold."""


Outside: TypeAlias = (
    Artefacts
    | OperatorCommand
    | Heard
    | Verdicts
    | Looked
    | PlanAsked
    | HostEnrolled
    | IdentityForked
)


@frozen
class Happened:
    """Something from outside, and the row of the log that says so first.

    place: when it is its turn: `at`, but where the clock was set back the latest time before.
    """

    at: datetime
    place: datetime
    seq: int
    what: Outside


@define
class Request:
    """What a host reported at once. soak_ends_at: before its convergence, if it is in there; by the record then.

    place: as of `Happened`.
    """

    at: datetime
    place: datetime
    seq: int
    facts: list[AgentEvent]
    soak_ends_at: datetime | None = None


@frozen
class Queued:
    """A dispatch that the control plane queued, and until when its soak was to last."""

    at: datetime
    seq: int
    soak_due_at: datetime


@define
class Played:
    """What is known of a host in a rollout: its dispatches and its requests, in order."""

    queued: list[Queued] = Factory(list[Queued])
    requests: list[Request] = Factory(list[Request])


class Recording:
    """What came from outside, of the rows that were taken.

    due: for what was due at a time, until when the clock was not looked at. holds_moved: when the clock moved a hold.
    heard: when each host reported something. policies: what a failed host of each rollout did. ended: when each
    rollout was first Terminal or halted. durations: how long the stages of the hosts took.
    """

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.durations = Durations()
        self.happened: list[Happened] = []
        self.hosts: dict[HostKey, Played] = {}
        self.due: dict[datetime, datetime] = {}
        self.holds_moved: list[datetime] = []
        self.heard: dict[str, list[datetime]] = {}
        self.ended: dict[RolloutId, datetime] = {}
        self.policies: dict[RolloutId, OnHealthFailure] = {}
        self._open_artefacts = False
        self._requests: dict[int, Request] = {}
        self._place = self._outside_at = _FIRST

    @property
    def last_at(self) -> datetime:
        """The time of the last row."""
        return self._place

    @property
    def state(self) -> State:
        """The state as of the last row, as it was recorded."""
        return self._replay.state

    def take(self, row: LogRow) -> None:
        """Take the next row. Raises: DamagedRow."""
        logged = entry_of(row)
        self._place = max(self._place, logged.at)
        due = next_time(self.state.view)
        if due is not None and due <= logged.at:
            # Until now it was not looked at: the control plane was down, or looks every few seconds.
            self.due[due] = logged.at
        self._note(logged.seq, logged.at, logged.entry)
        for applied in self._replay.take(row):
            self.durations.take(applied)
        if isinstance(logged.entry, RolloutMoved):
            self._note_end(subject_of(logged.entry.event), logged.at)
        if isinstance(logged.entry, ArtefactTaken) and logged.entry.rollout_id is not None:
            manifest = self.state.manifests[logged.entry.rollout_id].manifest
            self.policies[manifest.rollout_id] = manifest.rollout_policy.on_health_failure

    def published_seq(self, rollout_id: RolloutId) -> int | None:
        """Return the row with which the manifest of a rollout was published last; `None`: it is not kept."""
        for happened in reversed(self.happened):
            if isinstance(happened.what, Artefacts) and any(
                it.rollout_id == rollout_id for it in happened.what.taken
            ):
                return happened.seq
        return None

    def forget(self, before_seq: int) -> None:
        """Keep nothing of the rows before this one, but for when each host was heard of last."""
        begin = next(
            (at for at, it in enumerate(self.happened) if it.seq >= before_seq), len(self.happened)
        )
        del self.happened[:begin]
        first = self.happened[0].place if self.happened else self._place
        for key, played in [*self.hosts.items()]:
            played.queued = [it for it in played.queued if it.seq >= before_seq]
            played.requests = [it for it in played.requests if it.seq >= before_seq]
            if not played.queued and not played.requests:
                del self.hosts[key]
        for host, times in self.heard.items():
            self.heard[host] = times[max(0, bisect_left(times, first) - 1) :]
        self.due = {due: at for due, at in self.due.items() if at >= first}
        self.holds_moved = self.holds_moved[bisect_left(self.holds_moved, first) :]
        known = self.state.manifests
        self.ended = {it: at for it, at in self.ended.items() if it in known}
        self.policies = {it: policy for it, policy in self.policies.items() if it in known}

    def _note_end(self, rollout_id: RolloutId, at: datetime) -> None:
        record = self.state.view.rollouts.get(rollout_id)
        if record is not None and record.state not in GOING:
            self.ended.setdefault(rollout_id, at)

    def _note(self, seq: int, at: datetime, entry: Entry) -> None:
        if not isinstance(entry, ArtefactTaken | RolloutMoved):
            self._open_artefacts = False
        if isinstance(entry, ArtefactTaken):
            self._note_artefact(seq, at, entry)
        elif isinstance(entry, FactsReported):
            self._note_facts(seq, at, entry)
        elif isinstance(entry, FactReported):
            key = entry.rollout_id, entry.host
            self._played(key).requests.append(self._request(seq, at, key, (entry.fact,)))
        elif isinstance(entry, Commanded):
            self._add(at, seq, entry.command)
        elif isinstance(entry, HostEnrolled | IdentityForked):
            self._add(at, seq, entry)
        elif isinstance(entry, Returned):
            self._add(at, seq, Looked())
        elif isinstance(entry, HoldMoved):
            self.holds_moved.append(at)
            self._add(at, seq, PlanAsked())
        elif isinstance(entry, RolloutMoved):
            self._note_event(seq, at, entry)
        elif isinstance(entry, Planned | Deferred):
            self._note_plan(seq, at)
            action = entry.action
            if not isinstance(action, QueueDispatch):
                return
            queued = Queued(at, seq, action.soak_due_at)
            self._played((action.rollout_id, action.host)).queued.append(queued)

    def _note_plan(self, seq: int, at: datetime) -> None:
        """What was planned although nothing came from outside was planned since the clock was looked at: a signed time
        was reached, of which there is no row."""
        if at != self._outside_at:
            self.holds_moved.append(at)
            self._add(at, seq, PlanAsked())

    def _note_artefact(self, seq: int, at: datetime, entry: ArtefactTaken) -> None:
        last = self.happened[-1] if self.happened else None
        is_same = self._open_artefacts and last is not None and last.at == at
        if is_same and last is not None and isinstance(last.what, Artefacts):
            self.happened[-1] = evolve(last, what=Artefacts((*last.what.taken, entry)))
            return
        self._open_artefacts = True
        self._add(at, seq, Artefacts((entry,)))

    def _note_facts(self, seq: int, at: datetime, entry: FactsReported) -> None:
        key = entry.rollout_id, entry.host
        first = None if entry.continues is None else self._requests.get(entry.continues)
        if first is not None:
            first.facts += entry.facts
            first.soak_ends_at = first.soak_ends_at or self._soak_end(key, entry.facts)
            return
        request = self._request(seq, at, key, entry.facts)
        self._requests = {seq: request}
        self._played(key).requests.append(request)

    def _request(
        self, seq: int, at: datetime, key: HostKey, facts: tuple[AgentEvent, ...]
    ) -> Request:
        self._outside_at = at
        self.heard.setdefault(key[1], []).append(at)
        return Request(at, self._place, seq, list(facts), self._soak_end(key, facts))

    def _soak_end(self, key: HostKey, facts: tuple[AgentEvent, ...]) -> datetime | None:
        record = self._record(key)
        if record is None or not any(isinstance(it, Converged) for it in facts):
            return None
        return soak_end_of(record)

    def _note_event(self, seq: int, at: datetime, entry: RolloutMoved) -> None:
        event = entry.event
        if isinstance(event, HostsLapsed):
            hosts = event.hosts
            self._add(at, seq, Looked((), hosts) if event.withdraws else Looked(hosts))
        elif isinstance(event, RetentionExpired):
            self._add(at, seq, Looked())
        elif isinstance(event, RetryOrdered):
            if event.reason == BACKOFF_OVER or event.reason.startswith(_DRIFTED):
                self._add(at, seq, Looked())
        elif isinstance(event, Verdict):
            if event.guard == BAKE and event.outcome is not Outcome.WAIVED:
                self._add(at, seq, Looked())
            else:
                self._note_verdict(seq, at, event)
        elif isinstance(event, StandingChanged):
            if event.reason == HEARD_AGAIN:
                self._add(at, seq, Heard(event))
        elif isinstance(event, HostDrifted | DriftEnded):
            self._add(at, seq, Heard(event))

    def _note_verdict(self, seq: int, at: datetime, event: Verdict) -> None:
        last = self.happened[-1] if self.happened else None
        if last is not None and last.at == at and isinstance(last.what, Verdicts):
            before = last.what.said
            if last.seq + len(before) == seq and before[0].judge == event.judge:
                self.happened[-1] = evolve(last, what=Verdicts((*before, event)))
                return
        self._add(at, seq, Verdicts((event,)))

    def _add(self, at: datetime, seq: int, what: Outside) -> None:
        self._outside_at = at
        self.happened.append(Happened(at, self._place, seq, what))

    def _played(self, key: HostKey) -> Played:
        return self.hosts.setdefault(key, Played())

    def _record(self, key: HostKey) -> HostRolloutState | None:
        view = self.state.view
        return view.host(*key) if key[0] in view.open_rollouts else None
