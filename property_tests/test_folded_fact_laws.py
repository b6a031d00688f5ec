"""Laws of what hosts report in one request: folded into one row, it means what it means one fact after the other."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import TypeAlias

from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.engine.engine import ControlPlaneEngine
from nixfleet_control_plane.engine.entry_handlers import replay
from nixfleet_control_plane.engine.fact_intake import take_events
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.inputs import HostEvents, Input, Reply, Signed
from nixfleet_control_plane.messages.log_entry import (
    FactRefused,
    FactReported,
    FactsReported,
    Line,
    LoggedEntry,
)
from nixfleet_proto.agent_event import (
    ActivationCompleted,
    ActivationDeferred,
    ActivationStarted,
    AgentEvent,
    Converged,
    DispatchAck,
    Failed,
    OnHealthFailure,
    Postponed,
    ProbeMode,
    ProbeResult,
    ProbeStatus,
    ProbeSubResult,
    ProbeTopologyDeclared,
    ProbeTopologyEntry,
    Regressed,
    RollbackComplete,
)
from nixfleet_proto.codec.wire import batch_payload, facts_of_payload
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.wire import AgentEventEnvelope, EventBatch
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_runtime.transport import EventRefused, EventsOutcome
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import START
from tests.engines.scratch import scratch_directory

HOSTS = ("web-01", "web-02", "web-03")
PRIOR = "release-0"
Said: TypeAlias = Callable[[str, int, datetime], AgentEvent]
ENFORCE, HALT = ProbeMode.ENFORCE, OnHealthFailure.ROLLBACK_AND_HALT


def _probed(status: ProbeStatus, *controls: str) -> Said:
    found = tuple(ProbeSubResult(control, ProbeStatus.FAIL, "own") for control in controls)
    return lambda _, seq, at: ProbeResult("web", ENFORCE, status, at, None, found, seq=seq)


ACK, STARTED, COMPLETED, DECLARED, PASSES, CONVERGED, FAILS, FAILED, BACK = range(9)
SAID: tuple[Said, ...] = (
    lambda _, seq, at: DispatchAck(PRIOR, at, seq),
    lambda _, seq, at: ActivationStarted(at, "directory", seq),
    lambda host, seq, at: ActivationCompleted(f"r1-{host}", 0, at, seq),
    lambda _, seq, at: ProbeTopologyDeclared(
        (ProbeTopologyEntry("web", "http", ENFORCE),), at, seq
    ),
    _probed(ProbeStatus.PASS),
    lambda host, seq, at: Converged(at, f"r1-{host}", seq),
    _probed(ProbeStatus.FAIL, "a", "b"),
    lambda _, seq, at: Failed(at, 600, ("web",), HALT, seq),
    lambda _, seq, at: RollbackComplete(PRIOR, 0, at, seq),
    lambda _, seq, at: Regressed(at, 600, ("web",), HALT, seq),
    lambda _, seq, at: ActivationDeferred("kernel", at, seq),
    lambda _, seq, at: Postponed(at, "busy", at + timedelta(days=1), seq),
    lambda _, seq, at: Postponed(at, "free", at, seq),
    # It cannot be true for years.
    lambda _, seq, at: ActivationStarted(at + timedelta(days=9_000), "directory", seq),
)
WELL = (ACK, STARTED, COMPLETED, DECLARED, PASSES, CONVERGED)
BADLY = (ACK, STARTED, COMPLETED, DECLARED, FAILS, FAILED, BACK)
UNSTEADILY = (ACK, STARTED, COMPLETED, DECLARED, FAILS, PASSES, FAILS, PASSES, CONVERGED, FAILS)
# Two attempts, as a host has them that tells all of it again to a rebuilt control plane.
TWICE = (*BADLY, *WELL)


@frozen
class Request:
    """Some facts of a host. again: how many were told before. skipped: how many are missing in the middle."""

    host: int
    again: int
    length: int
    skipped: int
    is_signed: bool


_lives = st.sampled_from((WELL, WELL, UNSTEADILY, BADLY, TWICE)).flatmap(
    lambda life: st.lists(
        st.tuples(st.integers(0, len(life)), st.integers(0, len(SAID) - 1)), max_size=3
    ).map(lambda strays: _with_strays(life, strays))
)
_requests = st.lists(
    st.builds(
        Request,
        st.integers(0, len(HOSTS) - 1),
        st.sampled_from((0, 0, 0, 1, 3)),
        st.integers(1, 9),
        st.sampled_from((0, 0, 0, 0, 1)),
        st.booleans(),
    ),
    max_size=9,
)


def _with_strays(life: tuple[int, ...], strays: list[tuple[int, int]]) -> tuple[int, ...]:
    lived = list(life)
    for place, stray in strays:
        lived.insert(place, stray)
    return tuple(lived)


class SteppingEngine(ControlPlaneEngine):
    """Takes each fact of a request as if it came by itself, and plans when all were taken."""

    def _reply(self, commit: CommitBuilder, input: Input, now: datetime) -> Reply:
        if not isinstance(input, HostEvents):
            return super()._reply(commit, input, now)
        first: EventsOutcome | None = None
        for index, envelope in enumerate(input.envelopes):
            single = HostEvents(input.hostname, (envelope,))
            outcome = take_events(self._state, commit, single, now)
            if outcome.stopped_by is not None:
                first = first or EventsOutcome(index, outcome.stopped_by)
                if not isinstance(outcome.stopped_by, EventRefused):
                    break
        return first or EventsOutcome(len(input.envelopes))


class SteppedControlPlane(ScriptedControlPlane):
    """A control plane with such an engine."""

    def start_control_plane(self) -> None:
        super().start_control_plane()
        self.engine = SteppingEngine(self.state, self.ci.trust, SystemZones())


@given(lives=st.tuples(_lives, _lives, _lives), requests=_requests)
def test_what_is_folded_is_what_steps_make_of_it(
    lives: tuple[tuple[int, ...], ...], requests: list[Request]
) -> None:
    """The same answers, the same lines of the log in the same order, the same state, and views that the log repeats."""
    with (
        scratch_directory() as here,
        scratch_directory() as there,
        closing(ScriptedControlPlane(here)) as folded,
        closing(SteppedControlPlane(there, ci=folded.ci)) as stepped,
    ):
        rollout_id = folded.publish("r1")
        stepped.publish("r1")
        for each in (folded, stepped):
            each.wait(minutes=600)
        told = [0] * len(HOSTS)
        for request in (*requests, *_rest(lives)):
            sent = _sent(request, lives[request.host], told, rollout_id)
            for each in (folded, stepped):
                each.wait(minutes=1)
            answers = [each.ask(sent) for each in (folded, stepped)]
            assert answers[0] == answers[1]
            mirrored = folded.mirrored(rollout_id, HOSTS[request.host])
            told[request.host] = mirrored.last_event_seq
        assert _lines(folded) == _lines(stepped)
        expected = _unnumbered(likeness(folded.state))
        assert _unnumbered(likeness(stepped.state)) == expected
        assert _unnumbered(likeness(_replayed_line_by_line(folded))) == expected
        assert folded.check_store().differences == ()
        _require_everything_signed(folded, len(requests) + 2 * len(HOSTS))


def _rest(lives: tuple[tuple[int, ...], ...]) -> Iterator[Request]:
    """In the end every host tells the rest at once, twice: what came after an early fact stays untold."""
    for host, life in enumerate(lives):
        for _ in range(2):
            yield Request(host, 1, len(life) + 1, 0, True)


def _sent(
    request: Request, life: tuple[int, ...], told: list[int], rollout_id: RolloutId
) -> HostEvents:
    host = HOSTS[request.host]
    first = max(0, told[request.host] - request.again)
    seqs = [*range(first + 1, min(first + request.length, len(life)) + 1)] or [1]
    if request.skipped and len(seqs) > 2:
        del seqs[len(seqs) // 2]
    facts = [SAID[life[seq - 1]](host, seq, START + timedelta(minutes=10 * seq)) for seq in seqs]
    envelopes = tuple(AgentEventEnvelope(host, rollout_id, fact) for fact in facts)
    signed = Signed(batch_payload(EventBatch(envelopes)), "ab" * 64) if request.is_signed else None
    return HostEvents(host, envelopes, signed)


def _lines(control_plane: ScriptedControlPlane) -> list[Line]:
    return [_unsigned(logged.entry) for logged in control_plane.log()]


def _unsigned(entry: Line) -> Line:
    match entry:
        case FactReported() | FactRefused():
            return evolve(entry, signature=None)
        case _:
            return entry


def _replayed_line_by_line(control_plane: ScriptedControlPlane) -> State:
    """Return the state after the lines of a log, each as a row of its own, which is format 1 of the log."""
    state = State()
    for seq, line in enumerate(control_plane.log(), start=1):
        replay(state, CommitBuilder(), LoggedEntry(seq, line.at, line.entry))
    state.undo.settle()
    return state


def _unnumbered(found: dict[str, object]) -> dict[str, object]:
    """Leave out the numbers of rows: a log with a row for each fact has others."""
    rollouts, outstanding = found["rollouts"], found["outstanding"]
    assert isinstance(rollouts, dict)
    assert isinstance(outstanding, dict)
    return {
        **found,
        "head": None,
        "rollouts": {
            id_: evolve(record, opened_event_log_seq=1, last_transition_event_log_seq=1)
            for id_, record in rollouts.items()
        },
        "outstanding": {key: set(controls) for key, controls in outstanding.items()},
    }


def _require_everything_signed(control_plane: ScriptedControlPlane, requests: int) -> None:
    """What a row continues is in the row that has the bytes and the signature; these are there once."""
    rows = [entry_of(row) for row in control_plane.rows()]
    reported = [it.entry for it in rows if isinstance(it.entry, FactsReported)]
    assert sum(each.continues is None for each in reported) <= requests
    for logged in rows:
        if isinstance(logged.entry, FactsReported) and logged.entry.continues is not None:
            first = rows[logged.entry.continues - 1].entry
            assert isinstance(first, FactsReported)
            assert set(logged.entry.facts) <= set(facts_of_payload(first.payload.encode()))
