"""A forecast of a fleet: its rollouts run forward many times, each under other durations, and taken back.

Every run is of the production engine on the state itself, and ends with its undo log: nothing is copied, nothing is
written, and what is left is the state as it was.
Source: docs/spec/forecast.md.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Final, assert_never

from attrs import Factory, define, frozen

from nixfleet_control_plane.engine.guard_verdicts import guarded_rollout
from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.history.narration import told
from nixfleet_control_plane.messages.entry_codec import entry_of
from nixfleet_control_plane.messages.inputs import Action, PlanTick, Reply
from nixfleet_control_plane.messages.log_entry import Entry, HoldMoved, LogRow, RolloutMoved
from nixfleet_control_plane.messages.writes import Write
from nixfleet_control_plane.overview.words import hosts_words
from nixfleet_forecast.ahead import Ahead
from nixfleet_forecast.course import (
    GOING,
    MOST_PCT,
    Course,
    PastCourses,
    Settling,
    begin_wave,
    going,
)
from nixfleet_forecast.draws import Drawn, Draws
from nixfleet_forecast.durations import OBSERVATIONS_MIN, Durations, quantile
from nixfleet_forecast.hosts import DrawnHosts
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.trust import TrustRoot
from nixfleet_proto.wire import Dispatch
from nixfleet_runtime.http.forecasts import (
    Calibration,
    EdgeForecast,
    Forecast,
    RolloutForecast,
    SlowHost,
    Span,
    Straggler,
    WaveForecast,
)
from nixfleet_runtime.kernel.engine import Commit
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.planner.guards.words import guards_line
from nixfleet_state_machine.planner.holds.calendar import Zones
from nixfleet_state_machine.rollout.event import (
    HostsLapsed,
    RetryOrdered,
    Stage,
    Verdict,
    subject_of,
)
from nixfleet_state_machine.rollout.state import RolloutRecord, RolloutState, Standing

RUNS: Final = 60
RUNS_MIN: Final = 12
RUNS_LEAST: Final = 5
"""Of fewer runs no range is told: of so many the P10 and the P90 are nearly the first and the last."""
_HOST_RUNS_MAX: Final = 120_000
HORIZON: Final = timedelta(days=30)
"""How far is looked ahead."""
SHOWN_MAX: Final = 10
"""How many stragglers and edges of a rollout, and slow hosts of all, are named."""

ASSUMPTIONS: Final = (
    "no further host fails, and every probe that has not reported yet passes",
    "hosts take as long as this fleet's hosts took before; one that waits longer than any did may take as long again",
    "operators do nothing: no approval, clearance, hold or release comes",
)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_STAGE_WORDS: Final = {
    Stage.ACK: "acknowledged",
    Stage.ACTIVATION: "switched",
    Stage.REBOOT: "rebooted",
    Stage.CONVERGENCE: "converged after its soak",
}


@define
class Seen:
    """All that the runs came to, for one rollout."""

    courses: list[Course] = Factory(list[Course])
    edges: dict[str, list[datetime]] = Factory(dict[str, list[datetime]])
    waits: Counter[str] = Factory(Counter[str])


@frozen
class Subject:
    """What is forecast: a state, and what its log says of durations and of what has happened."""

    state: State
    durations: Durations
    past: PastCourses
    zones: Zones


def runs_for(hosts: int) -> int:
    """Return how many runs a forecast of so many hosts makes: fewer for large fleets, whose ranges need fewer."""
    return max(RUNS_MIN, min(RUNS, _HOST_RUNS_MAX // max(hosts, 1)))


def forecast(
    subject: Subject,
    now: datetime,
    *,
    only: Collection[RolloutId] | None = None,
    seed: int = 0,
    runs: int | None = None,
    calibration: Calibration | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> Forecast:
    """Return what is to come as of `now`. The state is as before afterwards.

    only: these rollouts are told of; all are run. runs: `None`: `runs_for` the hosts that are not done.
    is_late: whether there is no time for more: the runs that were made by then have to do, if they are enough.
    """
    state, durations = subject.state, subject.durations
    wanted = [each for each in going(state) if only is None or each in only]
    unknown = _unknown(durations)
    count = 0
    seen: dict[RolloutId, Seen] = {each: Seen() for each in wanted}
    if unknown is None and wanted:
        hosts = sum(len(state.view.terms(each).targets) for each in wanted)
        wanted_runs = runs_for(hosts) if runs is None else runs
        for run in range(wanted_runs):
            if not run_once(subject, Draws(durations, seed, run), now, seen, is_late=is_late):
                break
            count += 1
        if count < min(wanted_runs, RUNS_LEAST):
            unknown = _too_large(hosts, count)
            count, seen = 0, {each: Seen() for each in wanted}
    return Forecast(
        head_seq=state.head_seq,
        at=now,
        runs=count,
        stages=tuple(map(durations.known, Stage)),
        rollouts=tuple(_told(subject, each, seen[each], count) for each in wanted),
        slow=tuple(slow_hosts(subject, now))[:SHOWN_MAX],
        unknown=unknown,
        calibration=calibration,
        assumptions=ASSUMPTIONS if count else (),
    )


def _too_large(hosts: int, count: int) -> str:
    made = "none was" if count == 0 else "1 was" if count == 1 else f"{count} were"
    return (
        f"expected at least {RUNS_LEAST} runs of the {hosts:,} hosts that are not done in the time that there is, "
        f"and {made} made: `nixfleet log forecast` takes the time that it needs"
    )


def _unknown(durations: Durations) -> str | None:
    lacking = durations.lacking()
    if not lacking:
        return None
    found = ", ".join(f"{it.observations} of hosts that {_STAGE_WORDS[it.stage]}" for it in lacking)
    return f"expected at least {OBSERVATIONS_MIN} observations of each stage in this log, found {found}"


def run_once(
    subject: Subject,
    draws: Drawn,
    now: datetime,
    seen: dict[RolloutId, Seen],
    *,
    first: Callable[[Ahead], object] = lambda _: None,
    trust: TrustRoot | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> bool:
    """Run the fleet forward once, note in `seen` what was seen of its rollouts, and take all back.

    Returns whether there was time for it; if not, nothing is noted. first: what happens before anything else.
    trust: whose statements are good then. is_late: as of `forecast`.
    """
    state = subject.state
    state.undo.settle()
    ahead = Ahead(state, subject.zones, now, trust)
    watch = _Watch(ahead, seen)
    try:
        hosts = DrawnHosts(ahead, draws, subject.durations)
        hosts.start()
        watch.start(hosts)
        first(ahead)
        ahead.tell(PlanTick())
        ahead.run(now + HORIZON, lambda: watch.is_over() or is_late())
        if not watch.is_over() and is_late():
            return False
        watch.end()
    finally:
        state.undo.undo_to(0)
    return True


class _Watch:
    """Notes what is seen of rollouts in one run."""

    def __init__(self, ahead: Ahead, seen: dict[RolloutId, Seen]) -> None:
        self._ahead = ahead
        self._seen = seen
        state = ahead.state
        self._courses = {rollout_id: Course() for rollout_id in seen}
        self._records = {rollout_id: state.view.rollouts[rollout_id] for rollout_id in seen}
        self._settling = {rollout_id: Settling(state, rollout_id) for rollout_id in seen}
        self._open = set(seen)
        for rollout_id in seen:
            self._look(rollout_id)

    def start(self, hosts: DrawnHosts) -> None:
        """Look at everything from now on."""
        begin = self._ahead.on_queued

        def queued(dispatch: Dispatch) -> None:
            begin(dispatch)
            for rollout_id in self._open:
                if rollout_id == dispatch.rollout_id:
                    course, now = self._courses[rollout_id], self._ahead.now
                    begin_wave(course, self._ahead.state, rollout_id, dispatch.hostname, now)

        self._ahead.on_queued = queued
        self._ahead.on_commit = self._committed
        hosts.on_converged = self._converged

    def is_over(self) -> bool:
        """Whether every rollout has come to its end, or was halted."""
        return not self._open

    def end(self) -> None:
        """Note how far the rollouts came."""
        for rollout_id, seen in self._seen.items():
            seen.courses.append(self._courses[rollout_id])
            if self._courses[rollout_id].ended_at is None:
                seen.waits.update(dict.fromkeys(waits_of(self._ahead.state, rollout_id), 1))

    def _committed(self, commit: Commit[Write, Reply, Action], is_tick: bool) -> None:
        if is_tick:
            for write in commit.writes:
                if isinstance(write, LogRow):
                    self._note_edge(write)
        for rollout_id in tuple(self._open):
            if rollout_id not in self._ahead.state.view.open_rollouts:
                self._open.discard(rollout_id)  # It was pruned.
                continue
            record = self._ahead.state.view.rollouts[rollout_id]
            if record is not self._records[rollout_id]:
                self._moved(rollout_id, self._records[rollout_id], record)

    def _moved(self, rollout_id: RolloutId, before: RolloutRecord, after: RolloutRecord) -> None:
        self._records[rollout_id] = after
        last_wave = self._ahead.state.view.terms(rollout_id).last_wave
        self._courses[rollout_id].note_record(before, after, self._ahead.now, last_wave)
        self._look(rollout_id)
        if after.state not in GOING:
            self._open.discard(rollout_id)

    def _converged(self, rollout_id: RolloutId, hostname: str) -> None:
        if rollout_id in self._courses:
            self._courses[rollout_id].converged[hostname] = self._ahead.now
            self._settling[rollout_id].settle(hostname)
            self._look(rollout_id)

    def _look(self, rollout_id: RolloutId) -> None:
        course, settling = self._courses[rollout_id], self._settling[rollout_id]
        settling.count()
        if course.most is None and settling.are_most:
            course.most = self._ahead.now

    def _note_edge(self, row: LogRow) -> None:
        entry = entry_of(row).entry
        if not is_edge(entry):
            return
        assert isinstance(entry, HoldMoved | RolloutMoved), entry
        text = told(entry)
        for rollout_id, seen in self._seen.items():
            is_about = isinstance(entry, HoldMoved) or subject_of(entry.event) == rollout_id
            if is_about:
                seen.edges.setdefault(text, []).append(self._ahead.now)


def is_edge(entry: Entry) -> bool:
    """Whether the clock alone brought `entry`, and people wait for it."""
    if isinstance(entry, HoldMoved):
        return True
    edges = HostsLapsed | RetryOrdered | Verdict
    return isinstance(entry, RolloutMoved) and isinstance(entry.event, edges)


def waits_of(state: State, rollout_id: RolloutId) -> tuple[str, ...]:
    """Return what keeps a rollout from its end, in words: what a person moves, hosts that stay, gates that hold."""
    if rollout_id not in state.view.open_rollouts:
        return ()  # It was pruned.
    record = state.view.rollouts[rollout_id]
    if record.state is RolloutState.ABORTED:
        return ("it is Aborted: nothing more is dispatched in it, until another ref is released",)
    if record.state.is_halted:
        return (f"it is {record.state}: until an operator clears it",)
    found: list[str] = []
    guarded = guarded_rollout(state, rollout_id)
    if guarded is not None and guarded.guarded.since is not None:
        line = guards_line(guarded.guarded, guarded.declared, guarded.author)
        if line:
            found.append(
                f"wave {guarded.guarded.wave} waits until a person approves or a judge answers: {line}"
            )
    staying = Counter(
        f"is {host.state}"
        for host in state.view.hosts_of(rollout_id)
        if record.standing_of(host.hostname) is Standing.COUNTED
        and host.state in (HostState.ACTIVATING, HostState.DEFERRED, HostState.SOAKING)
    )
    found += [
        f"{hosts_words(count)} {why}, and nothing is known of when that ends"
        for why, count in staying.items()
    ]
    gates = Counter(
        (deferral.gate, deferral.reason)
        for (id_, _), deferral in state.deferrals.items()
        if id_ == rollout_id and not (found and deferral.gate is Gate.WAVE_PROMOTION)
    )
    found += [
        f"{hosts_words(count)} {_wait(count)}: {reason}"
        for (_, reason), count in gates.most_common(3)
    ]
    queued = sum(1 for _ in state.view.queued_of(rollout_id))
    if queued:
        found.append(
            f"{hosts_words(queued)} {'has' if queued == 1 else 'have'} a dispatch and did not acknowledge it"
        )
    return tuple(found)


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def slow_hosts(subject: Subject, now: datetime) -> Iterator[SlowHost]:
    """Yield the hosts that are at a stage for longer than 95 of 100 observations of this fleet, the slowest first."""
    limits = {
        stage: known.p95_seconds
        for stage in Stage
        if (known := subject.durations.known(stage)).observations >= OBSERVATIONS_MIN
    }
    found: list[SlowHost] = []
    for (rollout_id, host), begun in subject.durations.begun.items():
        limit = limits.get(begun.stage)
        is_going = rollout_id in subject.state.view.open_rollouts
        if limit is not None and is_going and (now - begun.since).total_seconds() > limit:
            found.append(SlowHost(rollout_id, host, begun.stage, begun.since, limit))
    return iter(sorted(found, key=lambda it: (it.since, it.host)))


def _told(subject: Subject, rollout_id: RolloutId, seen: Seen, runs: int) -> RolloutForecast:
    state = subject.state
    settling = Settling(state, rollout_id)
    settling.count()
    courses = seen.courses
    waits = tuple(text for text, _ in seen.waits.most_common(5))
    return RolloutForecast(
        rollout_id=rollout_id,
        state=state.view.rollouts[rollout_id].state,
        hosts=settling.base,
        settled=settling.settled,
        most=span_of((course.most for course in courses), runs),
        done=span_of((course.ended_at for course in courses), runs),
        waves=tuple(_waves(subject, rollout_id, courses, runs)),
        stragglers=tuple(_stragglers(subject, rollout_id, courses, runs)),
        edges=tuple(_edges(seen, runs)),
        waits=waits if courses else waits_of(state, rollout_id),
    )


def _waves(
    subject: Subject, rollout_id: RolloutId, courses: Sequence[Course], runs: int
) -> Iterator[WaveForecast]:
    terms, past = subject.state.view.terms(rollout_id), subject.past.of(rollout_id)
    for wave in range(terms.last_wave + 1):
        began_at, ended_at = past.begins.get(wave), past.ends.get(wave)
        begins = (course.begins.get(wave) for course in courses)
        ends = (course.ends.get(wave) for course in courses)
        yield WaveForecast(
            wave,
            terms.wave_sizes[wave],
            began_at,
            ended_at,
            None if began_at else span_of(begins, runs),
            None if ended_at else span_of(ends, runs),
        )


def _stragglers(
    subject: Subject, rollout_id: RolloutId, courses: Sequence[Course], runs: int
) -> Iterator[Straggler]:
    """Yield the hosts that are among the last 5 of 100 of their wave in at least half of the runs, the last first."""
    state, record = subject.state, subject.state.view.rollouts[rollout_id]
    if not courses:
        return
    by_wave: dict[int | None, list[HostRolloutState]] = {}
    for host in state.view.hosts_of(rollout_id):
        is_settled = host.state is HostState.CONVERGED or host.has_failed
        if not is_settled and record.standing_of(host.hostname) is Standing.COUNTED:
            wave = state.view.terms(rollout_id).wave_of.get(host.hostname)
            by_wave.setdefault(wave, []).append(host)
    found = [each for hosts in by_wave.values() for each in _last_of(subject, hosts, courses, runs)]
    found.sort(key=lambda it: (it.done.p50 is None, it.done.p50 or _NEVER, it.host), reverse=True)
    yield from found[:SHOWN_MAX]


def _last_of(
    subject: Subject, hosts: Sequence[HostRolloutState], courses: Sequence[Course], runs: int
) -> Iterator[Straggler]:
    last = Counter[str]()
    for course in courses:
        times = sorted((course.converged.get(it.hostname, _NEVER), it.hostname) for it in hosts)
        last.update(name for _, name in times[ceil(len(times) * MOST_PCT / 100) - 1 :])
    for host in hosts:
        if 2 * last[host.hostname] >= len(courses):
            done = span_of((course.converged.get(host.hostname) for course in courses), runs)
            yield Straggler(host.hostname, _why(subject, host), done)


def _why(subject: Subject, host: HostRolloutState) -> str:
    begun = subject.durations.begun.get((host.rollout_id, host.hostname))
    if begun is None:
        deferral = subject.state.deferrals.get((host.rollout_id, host.hostname))
        return f"it waits: {deferral.reason}" if deferral is not None else f"it is {host.state}"
    since = f"{begun.since:%Y-%m-%d %H:%MZ}"
    match begun.stage:
        case Stage.ACK:
            return f"dispatched at {since}, not acknowledged"
        case Stage.ACTIVATION:
            return f"it switches since {since}"
        case Stage.REBOOT:
            return f"it waits for its reboot since {since}"
        case Stage.CONVERGENCE:
            return f"it soaks; due at {since}"
        case _:
            assert_never(begun.stage)


def _edges(seen: Seen, runs: int) -> Iterator[EdgeForecast]:
    often = [(text, times) for text, times in seen.edges.items() if 10 * len(times) >= runs]
    spans = [EdgeForecast(text, span_of(times, max(runs, len(times)))) for text, times in often]
    known = [each for each in spans if each.at.p10 is not None]
    yield from sorted(known, key=lambda each: (each.at.p10, each.text))[:SHOWN_MAX]


def span_of(times: Iterable[datetime | None], runs: int) -> Span:
    """Return the range of `times`, one for each run; `None`: the run did not come to it."""
    known = sorted(at.timestamp() for at in times if at is not None)
    if not known:
        return Span(0)
    # Runs that did not come to it are later than all others.
    return Span(len(known), *(_at(known, share, runs) for share in (0.1, 0.5, 0.9)))


def _at(known: Sequence[float], share: float, runs: int) -> datetime | None:
    if share * (runs - 1) > len(known) - 1:
        return None
    whole = [*known, *[known[-1]] * (runs - len(known))]
    return datetime.fromtimestamp(round(quantile(whole, share)), UTC)
