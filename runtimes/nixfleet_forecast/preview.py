"""What a command would do: the engine is given it on the state, run forward, and everything is taken back.

Two runs say what follows: one with the command and one without. In them every stage takes a minute and no host fails,
so they show who begins and where a rollout stops, and not when it does. When it ends is forecast besides, where enough
is known of this fleet's hosts and it is not too large.
Source: docs/spec/forecast.md, Previews.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final, TypeAlias, assert_never

from attrs import frozen

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.messages.inputs import (
    AbortRollout,
    Action,
    ClearRollout,
    CommandOutcome,
    ExcuseHosts,
    GiveApproval,
    Input,
    OperatorCommand,
    PauseScope,
    PlaceHold,
    PlanTick,
    RelayWarrant,
    ReleaseHold,
    Reply,
    ResumeScope,
    RetireQuarantine,
    RetryHosts,
    SkipHosts,
)
from nixfleet_control_plane.messages.writes import RemoveDispatch, Write
from nixfleet_control_plane.overview.words import hosts_words
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.course import GOING
from nixfleet_forecast.draws import Draws, SteadyDraws
from nixfleet_forecast.forecast import (
    HORIZON,
    RUNS_MIN,
    Seen,
    Subject,
    run_once,
    span_of,
    waits_of,
)
from nixfleet_forecast.hosts import DrawnHosts
from nixfleet_forecast.orders import (
    KEY,
    NOT_STATED,
    Order,
    OrderedHosts,
    order_preview,
    order_sentences,
)
from nixfleet_forecast.words import span_words
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import artefact_hash, sign_approval
from nixfleet_proto.steering.approval import Approval, Decision
from nixfleet_proto.trust import KeySlot, Operator, OperatorRole, TrustRoot
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.forecasts import Span
from nixfleet_runtime.http.previews import OrderPreview, Preview, RolloutPreview
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
)
from nixfleet_state_machine.rollout.state import RolloutState

STEPS_MAX: Final = 20_000
"""How many steps one run takes at most: about three seconds."""
_HOST_RUNS_MAX: Final = 12_000


@frozen
class Statement:
    """A statement on a wave that an operator may sign."""

    rollout_id: RolloutId
    wave: int
    decision: Decision
    operator: str


Asked: TypeAlias = OperatorCommand | Statement | Order


def preview(
    subject: Subject, asked: Asked, now: datetime, heard: dict[str, datetime] | None = None
) -> Preview:
    """Return what `asked` would do at `now`. The state is as before afterwards.

    heard: when hosts were heard of last, as far as it matters: the log does not say.
    """
    state = subject.state
    input, trust = _input_of(state, asked, now)
    heard = heard or {}
    about = frozenset(_about(state, asked))
    order = asked if isinstance(asked, Order) else None
    without = _Play(subject, now, None, None, heard, about)
    if input is None:
        assert isinstance(asked, Statement), asked
        return _refused(subject, now, f"no rollout {asked.rollout_id} is open")
    with_it = _Play(subject, now, input, trust, heard, about, order)
    if with_it.refused is not None:
        return _refused(subject, now, with_it.refused)
    rollouts = tuple(_rollouts(subject, about, now, with_it, without, input, trust))
    return Preview(
        head_seq=state.head_seq,
        at=now,
        sentences=tuple(_sentences(with_it, without, rollouts)),
        begin=len(with_it.begun_at_once),
        begin_in_all=len(with_it.begun),
        begin_without=len(without.begun),
        in_flight_max=with_it.in_flight_max,
        withdrawn=with_it.withdrawn,
        is_cut=with_it.is_cut or without.is_cut,
        rollouts=rollouts,
        order=with_it.order,
    )


def _refused(subject: Subject, now: datetime, why: str) -> Preview:
    return Preview(subject.state.head_seq, now, (f"it is refused: {why}",), refused=why)


def _input_of(state: State, asked: Asked, now: datetime) -> tuple[Input | None, TrustRoot | None]:
    """Return what the engine is told, and whose statement it believes then."""
    if not isinstance(asked, Statement | Order):
        return asked, None
    trust = TrustRoot(
        KeySlot(KEY.public_key),
        operators=(Operator(asked.operator, KEY.public_key, OperatorRole.OPERATE),),
    )
    if isinstance(asked, Order):
        return asked.relayed(now), trust
    manifest = state.manifests.get(asked.rollout_id)
    if manifest is None:
        return None, None
    approval = Approval(
        asked.rollout_id,
        asked.wave,
        artefact_hash(manifest.artefact.body),
        asked.operator,
        asked.decision,
        NOT_STATED,
        now,
    )
    return GiveApproval(sign_approval(approval, KEY)), trust


class _Play:
    """One run, with what was told first or without it, and what was seen in it."""

    def __init__(
        self,
        subject: Subject,
        now: datetime,
        told: Input | None,
        trust: TrustRoot | None,
        heard: dict[str, datetime],
        about: Collection[RolloutId],
        order: Order | None = None,
    ) -> None:
        self._about = about
        self.order: OrderPreview | None = None
        self.refused: str | None = None
        self.begun_at_once = set[tuple[str, str]]()
        self.begun = set[tuple[str, str]]()
        self.withdrawn = 0
        self.in_flight_max = 0
        self.states: dict[RolloutId, RolloutState] = {}
        self.states_at_once: dict[RolloutId, RolloutState] = {}
        self.waits: dict[RolloutId, tuple[str, ...]] = {}
        self.held: Counter[str] = Counter()
        self._in_flight = set[tuple[str, str]]()
        state = subject.state
        state.undo.settle()
        self._ahead = ahead = Ahead(state, subject.zones, now, trust)
        ahead.steps_max = STEPS_MAX
        for hostname, at in heard.items():
            state.last_heard.set(hostname, at)
        try:
            hosts = DrawnHosts(ahead, SteadyDraws(), subject.durations)
            # What the clock has made due comes in any case.
            ahead.tell(PlanTick())
            hosts.start()
            self._watch(hosts)
            if told is not None:
                self._tell(told)
            is_ordered = order is not None and self.refused is None
            ordered = OrderedHosts(ahead, order) if order is not None and is_ordered else None
            self._look_at_once()
            if self.refused is None:
                # An order is obeyed also where no rollout has an end to come.
                ahead.run(now + HORIZON, self._is_over if ordered is None else lambda: False)
            self._look_at_end()
            if order is not None and ordered is not None:
                self.order = order_preview(order, ordered)
        finally:
            state.undo.undo_to(0)
        self.is_cut = ahead.steps >= STEPS_MAX

    def _tell(self, told: Input) -> None:
        reply = self._ahead.tell(told)
        assert isinstance(reply, CommandOutcome), reply
        self.refused = reply.refusal

    def _watch(self, hosts: DrawnHosts) -> None:
        ahead, state = self._ahead, self._ahead.state
        begin = ahead.on_queued

        def queued(dispatch: Dispatch) -> None:
            begin(dispatch)
            key = dispatch.rollout_id, dispatch.hostname
            self.begun.add(key)
            self._in_flight.add(key)

        ahead.on_queued = queued
        ahead.on_commit = self._committed
        self._hosts = hosts
        for rollout_id in state.view.open_rollouts:
            for host in state.view.hosts_of(rollout_id):
                if host.state.is_in_flight or state.view.is_queued(rollout_id, host.hostname):
                    self._in_flight.add((rollout_id, host.hostname))
        self.in_flight_max = len(self._in_flight)

    def _committed(self, commit: Commit[Write, Reply, Action], _: bool) -> None:
        view = self._ahead.state.view
        for write in commit.writes:
            if isinstance(write, RemoveDispatch) and write.rollout_id in view.open_rollouts:
                record = view.host(write.rollout_id, write.hostname)
                if record is not None and not record.state.is_in_flight:
                    key = write.rollout_id, write.hostname
                    if not view.is_queued(*key):
                        self._in_flight.discard(key)
                        self.withdrawn += record.dispatch_acked_at is None
        spoke = self._hosts.speaking
        record = None if spoke is None else view.host(*spoke)
        if spoke is not None and record is not None and not record.state.is_in_flight:
            self._in_flight.discard(spoke)
        self.in_flight_max = max(self.in_flight_max, len(self._in_flight))

    def _look_at_once(self) -> None:
        state = self._ahead.state
        self.begun_at_once = set(self.begun)
        self.states_at_once = {it: state.view.rollouts[it].state for it in state.view.open_rollouts}
        self.held = Counter(
            deferral.reason
            for (rollout_id, _), deferral in state.deferrals.items()
            if rollout_id in self._about
        )

    def _look_at_end(self) -> None:
        state = self._ahead.state
        for rollout_id in state.view.open_rollouts:
            self.states[rollout_id] = state.view.rollouts[rollout_id].state
            self.waits[rollout_id] = waits_of(state, rollout_id)

    def _is_over(self) -> bool:
        view = self._ahead.state.view
        return not any(view.rollouts[it].state in GOING for it in view.open_rollouts)


def _rollouts(
    subject: Subject,
    about: Collection[RolloutId],
    now: datetime,
    with_it: _Play,
    without: _Play,
    input: Input,
    trust: TrustRoot | None,
) -> Iterator[RolloutPreview]:
    """Yield the rollouts that the command is about, and those that go otherwise because of it."""
    state = subject.state
    touched = [
        rollout_id
        for rollout_id in sorted(state.view.open_rollouts)
        if rollout_id in about
        or (with_it.states.get(rollout_id), with_it.waits.get(rollout_id))
        != (without.states.get(rollout_id), without.waits.get(rollout_id))
    ]
    ends = _ends(subject, touched, now, input, trust)
    for rollout_id in touched:
        done, done_without = ends.get(rollout_id, (None, None))
        # One that is not there any more was pruned before the horizon.
        comes_to = with_it.states.get(rollout_id, RolloutState.PRUNED)
        yield RolloutPreview(
            rollout_id,
            with_it.states_at_once[rollout_id],
            comes_to,
            without.states.get(rollout_id, RolloutState.PRUNED),
            done,
            done_without,
            () if comes_to not in GOING else with_it.waits[rollout_id],
        )


def _ends(
    subject: Subject,
    touched: list[RolloutId],
    now: datetime,
    input: Input,
    trust: TrustRoot | None,
) -> dict[RolloutId, tuple[Span, Span]]:
    """Return when each rollout is Terminal, with the command and without it, if enough is known of this fleet."""
    view = subject.state.view
    hosts = sum(len(view.terms(each).targets) for each in view.served_rollouts())
    if subject.durations.lacking() or not touched or 2 * RUNS_MIN * hosts > _HOST_RUNS_MAX:
        return {}
    seen = {each: Seen() for each in touched}, {each: Seen() for each in touched}
    for run in range(RUNS_MIN):
        draws = Draws(subject.durations, 0, run), Draws(subject.durations, 0, run)
        run_once(subject, draws[0], now, seen[0], first=lambda it: it.tell(input), trust=trust)
        run_once(subject, draws[1], now, seen[1])
    return {
        each: (_done(seen[0][each]), _done(seen[1][each]))
        for each in touched
        if any(it.ended_at for it in (*seen[0][each].courses, *seen[1][each].courses))
    }


def _done(seen: Seen) -> Span:
    return span_of((course.ended_at for course in seen.courses), RUNS_MIN)


def _about(state: State, asked: Asked) -> Iterator[RolloutId]:
    match asked:
        case PauseScope() | ResumeScope() | PlaceHold() | ReleaseHold():
            yield from _in_scope(state, asked.scope)
        case RetireQuarantine():
            yield from _in_scope(state, ChannelScope(asked.channel))
        case (
            ClearRollout()
            | ExcuseHosts()
            | SkipHosts()
            | RetryHosts()
            | AbortRollout()
            | RelayWarrant()
            | Statement()
            | Order()
        ):
            yield asked.rollout_id
        case _:
            assert_never(asked)


def _in_scope(state: State, scope: HoldScope) -> Iterator[RolloutId]:
    view = state.view
    live = view.live_rollouts()
    match scope:
        case FleetScope():
            yield from live
        case ChannelScope() | GroupScope():
            yield from (it for it in live if view.terms(it).channel == scope.channel)
        case RolloutScope() | WaveScope():
            yield from (it for it in live if it == scope.rollout_id)
        case HostScope():
            yield from (it for it in live if scope.hostname in view.terms(it).targets)
        case _:
            assert_never(scope)


# In words.


def _sentences(
    with_it: _Play, without: _Play, rollouts: tuple[RolloutPreview, ...]
) -> Iterator[str]:
    if with_it.order is not None:
        yield from order_sentences(with_it.order)
    now = len(with_it.begun_at_once)
    if now:
        begin = "begins" if now == 1 else "begin"
        yield f"{hosts_words(now)} {begin} at once, at most {with_it.in_flight_max} in flight"
    elif with_it.held:
        yield f"no host begins at once: {_held(with_it)}"
    if with_it.withdrawn > without.withdrawn:
        taken = with_it.withdrawn - without.withdrawn
        what = "1 dispatch is" if taken == 1 else f"{taken} dispatches are"
        yield f"{what} taken back, of hosts that have not begun"
    fewer, more = len(without.begun - with_it.begun), len(with_it.begun - without.begun)
    if fewer:
        yield f"{hosts_words(fewer)} that would begin without it {'does' if fewer == 1 else 'do'} not"
    elif more > now:
        yield f"in all {hosts_words(more)} begin that would not without it"
    elif not more and not now:
        yield "no host begins that would not begin without it"
    for rollout in rollouts:
        yield from _rollout_words(rollout)
    if with_it.is_cut or without.is_cut:
        yield "the fleet is large: this is what was seen up to a bound, and not up to the end"


def _held(play: _Play) -> str:
    ((reason, count),) = play.held.most_common(1)
    others = play.held.total() - count
    more = f", and {others} for other reasons" if others else ""
    return f"{hosts_words(count)} {'waits' if count == 1 else 'wait'}: {reason}{more}"


def _rollout_words(rollout: RolloutPreview) -> Iterator[str]:
    name = rollout.rollout_id
    if rollout.comes_to in GOING:
        why = f": {rollout.waits[0]}" if rollout.waits else ""
        yield f"{name} comes to no end by itself{why}"
    elif rollout.comes_to is not rollout.comes_to_without:
        yield f"{name} comes to {rollout.comes_to}; without it, to {rollout.comes_to_without}"
    done, before = rollout.done, rollout.done_without
    if done is not None and done.runs and done != before:
        instead = ""
        if before is not None and before.runs:
            instead = f" instead of {span_words(before, RUNS_MIN)}"
        yield f"{name} ends {span_words(done, RUNS_MIN)}{instead}"
