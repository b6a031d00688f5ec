"""Takes what hosts report: decides which facts apply, and logs each request as one row, with what was signed.

A row is cut where rows of another kind come between two facts of one request: what follows is a row that `continues`
the first. So the log stays in the order in which everything was decided, and a replay cannot differ. Rejected: one row
whatever comes of it, with the rollout's events after all facts of the request (a wave that is broken by the first fact
would bar the closure of a rollback that comes as the second one, or not, by the order of the replay).
Source: docs/spec/runtimes.md, Control plane; docs/spec/log.md.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, cast

from attrs import define, frozen

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.entry_handlers import fork
from nixfleet_control_plane.engine.fact_fold import FactFold
from nixfleet_control_plane.engine.host_record import starts_over
from nixfleet_control_plane.engine.intake_limits import intake_objection
from nixfleet_control_plane.engine.rollout_course import join, notify, reported
from nixfleet_control_plane.engine.state import CONTRADICTION, State
from nixfleet_control_plane.messages.entry_codec import row_of
from nixfleet_control_plane.messages.inputs import HostEvents, Signed
from nixfleet_control_plane.messages.log_entry import IdentityForked, Stopped, facts_reported
from nixfleet_proto.agent_event import AgentEvent, ProbeResult
from nixfleet_proto.codec.wire import batch_payload, envelope_payload, payload_without
from nixfleet_proto.drafting import maker
from nixfleet_proto.errors import InvalidValue, ValueProblem
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.transport import (
    EventEarly,
    EventRefusal,
    EventRefused,
    EventsOutcome,
    HostHeld,
    ReplayFrom,
    RolloutUnknown,
    SeqForked,
)
from nixfleet_state_machine.host.effect import EmitLog, LogLevel, RecordTransition
from nixfleet_state_machine.host.errors import TransitionError
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.holds.scope import HostScope

REFUSED_IN_A_ROW_MAX: Final = 8
"""How many facts of a host in a row may not apply, before its history is taken for another one's."""
REFUSED_MAX: Final = 256
"""How many facts of a host may not apply in one rollout. Each is in the log for good, whatever comes in between."""

STOPPED_BY: Final[FrozenMap[type[EventRefusal], str]] = FrozenMap(
    {
        EventRefused: "refused",
        ReplayFrom: "gap",
        RolloutUnknown: "unknown",
        SeqForked: "forked",
        EventEarly: "early",
        HostHeld: "held",
    }
)
"""In one word, why a request was not taken further: in the log and in metrics."""
_NO_REASONS: Final = FrozenMap[int, str]()


def take_events(
    state: State, commit: CommitBuilder, input: HostEvents, now: datetime
) -> EventsOutcome:
    """Take the facts of a request, passing over any that does not apply; return what was accepted before the first
    refusal.

    Facts after a refused one are taken too, though the reply does not acknowledge them and the host sends them again.
    After a gap, and after a fact that cannot be true yet, nothing is taken.
    """
    state.last_heard.set(input.hostname, now)
    first: EventsOutcome | None = None
    before = 0
    for report in _reports(input):
        intake = _Intake(state, commit, input.hostname, report, now)
        for index, envelope in enumerate(report.envelopes, start=before):
            refusal = intake.take(envelope.event)
            if refusal is None:
                continue
            first = first or EventsOutcome(index, refusal)
            if not isinstance(refusal, EventRefused):
                intake.close(Stopped(envelope.event.seq, STOPPED_BY[type(refusal)]))
                return first
        intake.close()
        before += len(report.envelopes)
    return first or EventsOutcome(len(input.envelopes))


def hold_forked(
    state: State,
    commit: CommitBuilder,
    host: str,
    rollout_id: RolloutId | None,
    reason: str,
    now: datetime,
) -> None:
    """Hold a host that contradicted itself. It is logged and told once, until it is resumed."""
    if host in state.forked:
        return
    fork(state, commit, IdentityForked(host, rollout_id, reason), now)
    message = "a host contradicts itself and is held: two machines have its key, or its journal was set back"
    about = (("host", host), ("why", reason))
    commit.afterwards(EmitLog(LogLevel.WARNING, "nixfleet.identity", message, about))


@frozen
class _Report:
    """Facts of one rollout that were said together. signed: `None`: nothing was."""

    envelopes: tuple[AgentEventEnvelope, ...]
    signed: Signed | None

    @property
    def rollout_id(self) -> RolloutId:
        # Not validated: a text that is no rollout id names no known rollout either.
        return cast("RolloutId", self.envelopes[0].rollout_id)

    def said(self) -> Signed:
        """Return what was signed; of facts that were not, what would have been."""
        if self.signed is not None:
            return self.signed
        if len(self.envelopes) == 1:
            return Signed(envelope_payload(self.envelopes[0]), self.envelopes[0].signature)
        return Signed(batch_payload(EventBatch(self.envelopes)), None)


def _reports(input: HostEvents) -> Iterator[_Report]:
    """Yield what was said together: a signed batch is of one rollout; other facts are taken apart by rollout."""
    envelopes = input.envelopes
    if input.signed is not None:
        if len(envelopes) != 1 and len({each.rollout_id for each in envelopes}) != 1:
            found = f"{len({each.rollout_id for each in envelopes})}"
            problem = ValueProblem("envelopes", "signed events of one rollout", found)
            raise InvalidValue("HostEvents", (problem,))
        yield _report(envelopes, input.signed)
        return
    for (_, signature), group in groupby(envelopes, key=_said_with):
        together = tuple(group)
        if signature is None:
            yield _Report(together, None)
        else:
            yield from (_Report((each,), None) for each in together)


# Faster than the constructor: every request makes one.
_report = maker(_Report)


def _said_with(envelope: AgentEventEnvelope) -> tuple[str, str | None]:
    return envelope.rollout_id, envelope.signature


@define
class _OpenRow:
    """A row that has its number and is not written yet. place: of it among the writes of the commit."""

    seq: int
    place: int
    facts: list[AgentEvent]
    refused: dict[int, str]


class _Intake:
    """Takes the facts of one report, in order."""

    def __init__(
        self,
        state: State,
        commit: CommitBuilder,
        hostname: str,
        report: _Report,
        now: datetime,
    ) -> None:
        self._state = state
        self._commit = commit
        self._hostname = hostname
        self._report = report
        self._now = now
        # The rollout's own id, where there is one: the view looks it up faster than a text.
        rollout = state.view.rollouts.get(report.rollout_id)
        self._rollout_id = report.rollout_id if rollout is None else rollout.rollout_id
        self._key = self._rollout_id, hostname
        record = None if rollout is None else state.view.host(*self._key)
        self._fold = None if record is None else FactFold(state, commit, record, now)
        # Only what follows from a fact changes it.
        self._is_given_back = record is not None and self._counts_again()
        self._row: _OpenRow | None = None
        # The row with what was signed, and the last fact that is in a row.
        self._signed_in: int | None = None
        self._last_logged = 0

    def take(self, fact: AgentEvent) -> EventRefusal | None:
        """Take the next fact; return why it was not accepted, if it was not."""
        fold, seq = self._fold, fact.seq
        if fold is None:
            return RolloutUnknown(self._rollout_id)
        record = fold.record
        if seq <= record.last_event_seq and not self._starts_over(fold, fact):
            return self._known(fold, fact)
        if self._hostname in self._state.forked:
            held = self._state.view.holds.get(HostScope(self._hostname), CONTRADICTION)
            assert held is not None, self._hostname
            return HostHeld(self._rollout_id, held.reason)
        if seq > record.last_event_seq + 1:
            return ReplayFrom(self._rollout_id, record.last_event_seq + 1)
        early = self._early(fact)
        if early is not None:
            self._note_early(early)
            return early
        objection = intake_objection(record, self._failing_controls, fact)
        if objection is not None:
            return self._refuse(fold, fact, objection)
        try:
            after, effects = fold.step(fact)
        except TransitionError as error:
            return self._refuse(fold, fact, str(error))
        row = self._row or self._open()
        row.facts.append(fact)
        transitions = fold.carry_out(fact, after, effects, row.seq)
        if transitions or self._is_given_back:
            self._go_on(fold, transitions)
        return None

    def close(self, stopped: Stopped | None = None) -> None:
        """Put what was folded, and write its row. stopped: where the request was not taken further, and why."""
        if self._fold is not None:
            self._fold.put()
        row = self._row
        if row is None:
            return
        said = self._report.said()
        if self._signed_in is not None:
            said = Signed(payload_without(said.payload, self._last_logged), None)
        entry = facts_reported(
            self._hostname,
            self._rollout_id,
            tuple(row.facts),
            FrozenMap(row.refused) if row.refused else _NO_REASONS,
            said.payload.decode(),
            said.signature,
            stopped,
            self._signed_in,
        )
        self._commit.write_at(row.place, row_of(row.seq, self._now, entry))
        self._signed_in = self._signed_in or row.seq
        self._last_logged = row.facts[-1].seq
        self._row = None

    def _open(self) -> _OpenRow:
        self._row = _OpenRow(self._state.number_row(), self._commit.length, [], {})
        return self._row

    def _go_on(self, fold: FactFold, transitions: Sequence[RecordTransition]) -> None:
        """Tell the host's rollout of what the host became, and go on with it."""
        state, commit, now = self._state, self._commit, self._now
        fold.put()
        reported(state, commit, self._rollout_id, self._hostname, now)
        for transition in transitions:
            join(state, commit, self._rollout_id, self._hostname, now)
            notify(state, commit, transition, now)
        if self._row is not None and state.head_seq != self._row.seq:
            self.close()
        fold.read_again()
        self._is_given_back = self._counts_again()

    def _early(self, fact: AgentEvent) -> EventEarly | None:
        # Most facts are results, of which nothing but the date can be early.
        if isinstance(fact, ProbeResult) and fact.observed_at <= self._now:
            return None
        return self._state.receipts.early(self._key, fact, self._soak, self._now)

    def _counts_again(self) -> bool:
        """Whether the host was silent or skipped, and counts again when a fact of it is taken."""
        rollout = self._state.view.rollouts[self._rollout_id]
        return rollout.standing_of(self._hostname).is_given_back

    def _starts_over(self, fold: FactFold, fact: AgentEvent) -> bool:
        """Whether the host has a new journal, in which another fact has a number that was taken while it waited.

        A number that a refused fact has is not such a one: its host did more than wait.
        """
        is_refused = (*self._key, fact.seq) in self._state.refused
        if is_refused or not starts_over(fold.record, fact):
            return False
        fold.put()
        return not self._state.digests.is_known(self._key, fact, fold.record.last_event_seq)

    def _known(self, fold: FactFold, fact: AgentEvent) -> EventRefusal | None:
        """Answer a fact whose number was taken: a duplicate, whose first copy is durable, or will be with this one."""
        fold.put()
        last = fold.record.last_event_seq
        if self._state.digests.is_contradicted_by(self._key, fact, last):
            reason = f"it has told two facts of {self._rollout_id} by the number {fact.seq}"
            self._hold(reason)
            return SeqForked(self._rollout_id, fact.seq)
        known = self._state.refused.get((*self._key, fact.seq))
        return None if known is None else EventRefused(self._rollout_id, fact.seq, known.reason)

    def _refuse(self, fold: FactFold, fact: AgentEvent, reason: str) -> EventRefused | HostHeld:
        """Log a fact that does not apply and pass over it; hold a host of which too many do not."""
        many = self._too_many_refused(fold.record)
        if many is not None:
            held = f"{many} do not apply: {reason}"
            self._hold(held)
            return HostHeld(self._rollout_id, held)
        row = self._row or self._open()
        row.facts.append(fact)
        row.refused[fact.seq] = reason
        fold.skip(fact, reason, row.seq)
        return EventRefused(self._rollout_id, fact.seq, reason)

    def _hold(self, reason: str) -> None:
        # What was folded is put before a row of another kind.
        if self._fold is not None:
            self._fold.put()
        hold_forked(self._state, self._commit, self._hostname, self._rollout_id, reason, self._now)

    def _too_many_refused(self, record: HostRolloutState) -> str | None:
        """Return how many facts were refused since the host was resumed, if no more may be."""
        if self._refused_in_a_row(record) == REFUSED_IN_A_ROW_MAX:
            return f"{REFUSED_IN_A_ROW_MAX} of its facts of {record.rollout_id} in a row"
        if self._state.refused_counts.get(self._key, 0) >= REFUSED_MAX:
            return f"{REFUSED_MAX} of its facts of {record.rollout_id}"
        return None

    def _refused_in_a_row(self, record: HostRolloutState) -> int:
        """Return how many of the host's latest facts were refused, counting no further than is of interest."""
        last, known = record.last_event_seq, self._state.refused
        for count in range(REFUSED_IN_A_ROW_MAX):
            refusal = known.get((record.rollout_id, record.hostname, last - count))
            if refusal is None or not refusal.counts:
                return count
        return REFUSED_IN_A_ROW_MAX

    def _failing_controls(self) -> int:
        return len(self._state.outstanding.get(self._key, ()))

    def _soak(self) -> timedelta:
        terms = self._state.view.terms(self._rollout_id)
        wave = terms.wave_of.get(self._hostname)
        return timedelta(minutes=0 if wave is None else terms.wave_soak_minutes[wave])

    def _note_early(self, early: EventEarly) -> None:
        before = self._state.early.get(self._key)
        self._state.early.set(self._key, early)
        if before is None or before.seq != early.seq:
            about = (
                ("host", self._hostname),
                ("rollout", self._rollout_id),
                ("why", early.reason),
            )
            message = "an event cannot be true yet, and is taken later"
            self._commit.afterwards(EmitLog(LogLevel.WARNING, "nixfleet.clocks", message, about))
