"""Rollouts: histories that apply, the records they lead to, and what may come next."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from attrs import evolve, frozen
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import APPROVALS
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.replay import replay_rollout
from nixfleet_state_machine.rollout.event import (
    DriftEnded,
    GuardsOpened,
    HostDrifted,
    HostJoined,
    HostsLapsed,
    HostStateChanged,
    MembersChanged,
    OperatorClearance,
    RetentionExpired,
    RetryOrdered,
    RolloutAborted,
    RolloutEvent,
    RolloutOpened,
    RolloutTerminal,
    Stage,
    StandingChanged,
    SuccessorOpened,
    Verdict,
    WaveAdvanced,
    WaveBroken,
)
from nixfleet_state_machine.rollout.guard_tally import Outcome
from nixfleet_state_machine.rollout.opening import open_rollout
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing
from nixfleet_testing.strategies.names import (
    hostnames,
    rollout_ids,
    times,
)
from nixfleet_testing.strategies.walks import walks_to_states

STAYS_MAX = 2


@frozen
class RolloutHistory:
    """Events that apply one after the other to a record in Opening, each taken in at its own time."""

    opened: RolloutRecord
    events: tuple[tuple[RolloutEvent, datetime], ...] = ()

    @property
    def record(self) -> RolloutRecord:
        """What the events lead to."""
        return replay_rollout(self.opened, self.events)


@frozen
class RolloutMoment:
    """A record that a legal history led to, and an event for it, legal or not."""

    record: RolloutRecord
    event: RolloutEvent
    now: datetime


@st.composite
def rollout_histories(draw: st.DrawFn) -> RolloutHistory:
    """Histories of one rollout from Opening to any state, by any way there of a few moves."""
    opened = open_rollout(draw(rollouts_opened()), draw(st.integers(1, 99)), ())
    history = RolloutHistory(opened)
    goal = draw(st.sampled_from(RolloutState))
    for state, following in draw(st.sampled_from(_WALKS[goal])):
        history = _stayed(draw, history, state)
        history = _took(draw, history, _MOVES[state, following])
    return _stayed(draw, history, goal)


def rollout_records() -> SearchStrategy[RolloutRecord]:
    """Records that legal histories lead to, in each state as often as in any other."""
    return rollout_histories().map(lambda history: history.record)


@st.composite
def rollout_moments(draw: st.DrawFn) -> RolloutMoment:
    """A record and an event for it: legal, of any kind, or perhaps about another rollout."""
    record = draw(rollout_records())
    choices = [rollout_events(), addressed(rollout_events(), to=record.rollout_id)]
    if record.state is not RolloutState.PRUNED:
        # Twice: what is refused comes often enough by itself.
        choices += [legal_rollout_events(record)] * 2
    # Two draws: `one_of` would give each kind of event, not each choice, an equal chance.
    event = draw(draw(st.sampled_from(choices)))
    return RolloutMoment(record, event, draw(times()))


def legal_rollout_events(record: RolloutRecord) -> SearchStrategy[RolloutEvent]:
    """The events that `step_rollout` takes from `record`. Raises: InvalidArgument when it is Pruned."""
    if record.state is RolloutState.PRUNED:
        raise InvalidArgument("no event is legal from Pruned")
    return addressed(_LEGAL[record.state], to=record.rollout_id)


def waves() -> SearchStrategy[int]:
    return st.integers(0, 3)


def rollout_events() -> SearchStrategy[RolloutEvent]:
    """Any event about any rollout, whatever came before it."""
    return _ANY


def addressed(drawn: SearchStrategy[RolloutEvent], to: RolloutId) -> SearchStrategy[RolloutEvent]:
    """The events of `drawn`, all about the rollout `to`."""
    return drawn.map(lambda event: _readdressed(event, to))


def _readdressed(event: RolloutEvent, to: RolloutId) -> RolloutEvent:
    if isinstance(event, SuccessorOpened):
        return evolve(event, superseded_rollout_id=to)
    return evolve(event, rollout_id=to)


@st.composite
def rollouts_opened(draw: st.DrawFn) -> RolloutOpened:
    rollout_id = draw(rollout_ids())
    return RolloutOpened(rollout_id, rollout_id.channel, rollout_id.channel_ref, draw(times()))


def _joined() -> SearchStrategy[HostJoined]:
    return st.builds(HostJoined, rollout_ids(), hostnames(), waves(), times())


def _host_changes(*to: HostState) -> SearchStrategy[HostStateChanged]:
    states = st.sampled_from(HostState)
    return st.builds(
        HostStateChanged, rollout_ids(), hostnames(), states, st.sampled_from(to), times()
    )


def _wave_advances(rising: bool) -> SearchStrategy[WaveAdvanced]:
    pairs = st.tuples(waves(), waves()).map(sorted)
    return st.builds(_wave_advanced, rollout_ids(), pairs, st.just(rising), times())


def _wave_advanced(
    rollout_id: RolloutId, pair: list[int], rising: bool, at: datetime
) -> WaveAdvanced:
    low, high = pair
    if rising:
        return WaveAdvanced(rollout_id, low, high + 1, at)
    return WaveAdvanced(rollout_id, high, low, at)


def _terminals() -> SearchStrategy[RolloutTerminal]:
    return st.builds(RolloutTerminal, rollout_ids(), times())


def _successors() -> SearchStrategy[SuccessorOpened]:
    return st.builds(SuccessorOpened, rollout_ids(), rollout_ids(), times())


def _expiries() -> SearchStrategy[RetentionExpired]:
    return st.builds(RetentionExpired, rollout_ids(), times())


def _clearances() -> SearchStrategy[OperatorClearance]:
    return st.builds(
        OperatorClearance,
        rollout_ids(),
        st.just("alice"),
        st.just("disk replaced"),
        st.frozensets(hostnames(), max_size=2),
        times(),
        st.lists(waves(), max_size=2, unique=True).map(tuple),
    )


def _broken_waves() -> SearchStrategy[WaveBroken]:
    counts = st.integers(0, 3)
    return st.builds(WaveBroken, rollout_ids(), waves(), counts, counts, counts, times())


def _names(least: int = 1) -> SearchStrategy[tuple[str, ...]]:
    return st.lists(hostnames(), min_size=least, max_size=2, unique=True).map(tuple)


def _lapses() -> SearchStrategy[HostsLapsed]:
    standings = st.sampled_from((Standing.AWAY, Standing.LAPSED))
    stages = st.sampled_from(Stage)
    return st.builds(
        HostsLapsed, rollout_ids(), _names(), stages, standings, times(), st.booleans()
    )


def _changes_of_standing() -> SearchStrategy[StandingChanged]:
    standings, reasons = st.sampled_from(Standing), st.just("alice: in repair")
    return st.builds(StandingChanged, rollout_ids(), _names(), standings, reasons, times())


def _retries() -> SearchStrategy[RetryOrdered]:
    reasons = st.just("its back-off is over")
    return st.builds(RetryOrdered, rollout_ids(), _names(), st.integers(2, 4), reasons, times())


def _changes_of_members() -> SearchStrategy[MembersChanged]:
    joined = _names(least=0)
    return st.builds(MembersChanged, rollout_ids(), joined, _names(0), _names(0), times())


def _drifts() -> SearchStrategy[HostDrifted]:
    running = st.sampled_from(("by-hand", "release-0"))
    return st.builds(HostDrifted, rollout_ids(), hostnames(), running, times())


def _ends_of_drifts() -> SearchStrategy[DriftEnded]:
    return st.builds(DriftEnded, rollout_ids(), hostnames(), times())


def _aborts() -> SearchStrategy[RolloutAborted]:
    who, why = st.just("alice"), st.just("it eats disks")
    return st.builds(RolloutAborted, rollout_ids(), who, why, times())


def _guards_opened() -> SearchStrategy[GuardsOpened]:
    return st.builds(GuardsOpened, rollout_ids(), waves(), times())


def verdicts() -> SearchStrategy[Verdict]:
    """Return verdicts of two guards by three judges, two of whom are operators."""
    return st.builds(
        Verdict,
        rollout_ids(),
        waves(),
        st.sampled_from((APPROVALS, "errors")),
        st.sampled_from(("ada", "bob", "prometheus")),
        st.sampled_from(Outcome),
        st.just("as expected"),
        times(),
    )


# Made once: a strategy costs more to make than to draw from.
ROLLOUT_EVENTS: Mapping[type[RolloutEvent], SearchStrategy[RolloutEvent]] = {
    RolloutOpened: rollouts_opened(),
    HostJoined: _joined(),
    HostStateChanged: _host_changes(*HostState),
    WaveAdvanced: _wave_advances(rising=True) | _wave_advances(rising=False),
    RolloutTerminal: _terminals(),
    SuccessorOpened: _successors(),
    RetentionExpired: _expiries(),
    OperatorClearance: _clearances(),
    WaveBroken: _broken_waves(),
    HostsLapsed: _lapses(),
    StandingChanged: _changes_of_standing(),
    RetryOrdered: _retries(),
    MembersChanged: _changes_of_members(),
    HostDrifted: _drifts(),
    DriftEnded: _ends_of_drifts(),
    RolloutAborted: _aborts(),
    GuardsOpened: _guards_opened(),
    Verdict: verdicts(),
}
_ANY = st.one_of(list(ROLLOUT_EVENTS.values()))


def _of(*kinds: type[RolloutEvent]) -> SearchStrategy[RolloutEvent]:
    return st.one_of([ROLLOUT_EVENTS[kind] for kind in kinds])


_HALTING = (HostState.FAILED, HostState.REVERTED)
_HARMLESS = tuple(state for state in HostState if state not in _HALTING)

# What takes a rollout from one state to another.
_MOVES: Mapping[tuple[RolloutState, RolloutState], SearchStrategy[RolloutEvent]] = {
    (RolloutState.OPENING, RolloutState.ACTIVE): _of(HostJoined),
    (RolloutState.ACTIVE, RolloutState.CONVERGING): _wave_advances(rising=False),
    (RolloutState.CONVERGING, RolloutState.ACTIVE): _wave_advances(rising=True),
    **{
        (under_way, to): kinds
        for under_way in (RolloutState.ACTIVE, RolloutState.CONVERGING)
        for to, kinds in (
            (RolloutState.TERMINAL, _of(RolloutTerminal)),
            (RolloutState.FAILED, _host_changes(HostState.FAILED) | _of(WaveBroken)),
            (RolloutState.REVERTED, _host_changes(HostState.REVERTED)),
        )
    },
    (RolloutState.FAILED, RolloutState.REVERTED): _host_changes(HostState.REVERTED),
    (RolloutState.FAILED, RolloutState.ACTIVE): _of(OperatorClearance),
    (RolloutState.REVERTED, RolloutState.ACTIVE): _of(OperatorClearance),
    **{
        (state, RolloutState.SUPERSEDED): _of(SuccessorOpened)
        for state in RolloutState
        if state not in (RolloutState.SUPERSEDED, RolloutState.PRUNED)
    },
    **{
        (ended, RolloutState.ABORTED): _of(RolloutAborted)
        for ended in RolloutState
        if ended not in (RolloutState.ABORTED, RolloutState.SUPERSEDED, RolloutState.PRUNED)
    },
    **{
        (at_rest, RolloutState.PRUNED): _of(RetentionExpired)
        for at_rest in (
            RolloutState.TERMINAL,
            RolloutState.REVERTED,
            RolloutState.FAILED,
            RolloutState.ABORTED,
            RolloutState.SUPERSEDED,
        )
    },
}
_COUNTED = _of(
    HostsLapsed,
    StandingChanged,
    RetryOrdered,
    MembersChanged,
    HostDrifted,
    DriftEnded,
    GuardsOpened,
    Verdict,
)
_LATE = _of(HostJoined, WaveAdvanced, RolloutTerminal, WaveBroken) | _COUNTED
# What a rollout takes and stays where it is.
_STAYS: Mapping[RolloutState, SearchStrategy[RolloutEvent]] = {
    RolloutState.OPENING: _COUNTED,
    RolloutState.ACTIVE: st.one_of(
        _host_changes(*_HARMLESS), _wave_advances(rising=True), _of(HostJoined), _COUNTED
    ),
    RolloutState.CONVERGING: st.one_of(
        _host_changes(*_HARMLESS), _wave_advances(rising=False), _of(HostJoined), _COUNTED
    ),
    RolloutState.TERMINAL: _of(HostStateChanged, HostJoined, RolloutTerminal, WaveBroken)
    | _COUNTED,
    RolloutState.REVERTED: _of(HostStateChanged) | _LATE,
    RolloutState.FAILED: _host_changes(*_HARMLESS, HostState.FAILED) | _LATE,
    RolloutState.ABORTED: _of(HostStateChanged, RolloutAborted) | _LATE,
    RolloutState.SUPERSEDED: _of(HostStateChanged, SuccessorOpened, RolloutAborted) | _LATE,
}
ROLLOUT_MOVES = tuple(_MOVES)
_WALKS = walks_to_states(ROLLOUT_MOVES, start=RolloutState.OPENING, length_max=5)


def _kinds_legal_from(state: RolloutState) -> Iterator[SearchStrategy[RolloutEvent]]:
    yield from (kinds for stays_in, kinds in _STAYS.items() if stays_in is state)
    yield from (kinds for (leaves, _), kinds in _MOVES.items() if leaves is state)


_LEGAL = {state: st.one_of(list(_kinds_legal_from(state))) for state in RolloutState}


def _stayed(draw: st.DrawFn, history: RolloutHistory, state: RolloutState) -> RolloutHistory:
    if state in _STAYS:
        for _ in range(draw(st.integers(0, STAYS_MAX))):
            history = _took(draw, history, _STAYS[state])
    return history


def _took(
    draw: st.DrawFn, history: RolloutHistory, kinds: SearchStrategy[RolloutEvent]
) -> RolloutHistory:
    event = draw(addressed(kinds, to=history.opened.rollout_id))
    return evolve(history, events=(*history.events, (event, draw(times()))))
