"""How the guards of the next wave of a rollout stand: by what was declared, and what the judges said.

They hold the cursor: the next wave begins when the current one is done and its guards are satisfied. So there is no
gate for them, and a plan does not ask them.
Source: docs/spec/guards.md.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, assert_never

from attrs import frozen

from nixfleet_proto.checked import WordEnum, checked
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.guards import BAKE, Counting, Quorum, WaveGuards
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from nixfleet_state_machine.planner.terms import RolloutTerms
from nixfleet_state_machine.rollout.event import Verdict
from nixfleet_state_machine.rollout.guard_tally import GuardTally, Outcome
from nixfleet_state_machine.rollout.state import RolloutRecord

TIME: Final = "time"
"""The judge of a bake."""


class GuardState(WordEnum):
    """Completes "the guard is …". BROKEN: it can be satisfied no more, and the wave is broken."""

    OPEN = "open"
    SATISFIED = "satisfied"
    WAIVED = "waived"
    BROKEN = "broken"

    @property
    def lets_begin(self) -> bool:
        """Whether it does not hold the wave."""
        return self is GuardState.SATISFIED or self is GuardState.WAIVED


@frozen
@checked
class GuardStatus:
    """How one guard stands. tally: `None`: no judge has said anything. until: when a bake is over, if it is asked."""

    name: str
    state: GuardState
    tally: GuardTally | None
    until: datetime | None = None


@frozen
@checked
class GuardedWave:
    """The next wave of a rollout, and its guards, in order.

    since: from when they are asked; `None`: not yet, for the wave before is not done.
    """

    wave: int
    since: datetime | None
    guards: tuple[GuardStatus, ...]

    @property
    def may_begin(self) -> bool:
        """Whether no guard holds the wave."""
        return self.since is not None and all(guard.state.lets_begin for guard in self.guards)

    @property
    def broken(self) -> GuardStatus | None:
        """The first guard that breaks the wave; `None`: none does."""
        return next((each for each in self.guards if each.state is GuardState.BROKEN), None)


def next_guards(record: RolloutRecord, terms: RolloutTerms) -> GuardedWave | None:
    """Return how the guards of the wave after the current one stand; `None`: there is no such wave, or it has none."""
    wave = record.current_wave + 1
    return guards_of_wave(record, terms, wave) if wave <= terms.last_wave else None


def guards_of_wave(record: RolloutRecord, terms: RolloutTerms, wave: int) -> GuardedWave | None:
    """As `next_guards`, of any wave that has not begun."""
    guards = terms.guards_of(wave)
    if not guards.is_declared:
        return None
    since = record.guarded_since if wave == record.current_wave + 1 else None
    return GuardedWave(wave, since, tuple(_statuses(record, guards, wave, since)))


def broken_wave(record: RolloutRecord, terms: RolloutTerms) -> GuardedWave | None:
    """Return the first wave to come that a guard breaks, with its guards; `None`: none is. O(verdicts)."""
    for wave in sorted({tally.wave for tally in record.guard_tallies}):
        guarded = guards_of_wave(record, terms, wave) if wave <= terms.last_wave else None
        if guarded is not None and guarded.broken is not None:
            return guarded
    return None


def broken_reason(guard: GuardStatus) -> str:
    """Return why a guard breaks its wave, for the event: which one, and what its judge said last."""
    tally = guard.tally
    said = "" if tally is None else f": {tally.outcome} by {tally.judge}: {tally.reason}"
    return f"{guard.name}{said}"


def next_bake(view: FleetView) -> datetime | None:
    """Return when a bake is over next; `None`: none is being waited for. O(rollouts)."""
    return min((at for _, _, at in _bakes(view)), default=None)


def bakes_over(view: FleetView, now: datetime) -> Iterator[Verdict]:
    """Yield the verdicts of the bakes that are over, by rollout. O(rollouts)."""
    for rollout_id, wave, at in _bakes(view):
        if at <= now:
            minutes = view.terms(rollout_id).guards_of(wave).bake_minutes
            reason = f"{minutes} minutes have passed"
            yield Verdict(rollout_id, wave, BAKE, TIME, Outcome.PASS, reason, now)


def quorum_state(quorum: Quorum, tally: GuardTally | None) -> GuardState:
    """Return how a quorum stands after the verdicts of `tally`. Without any it is open: no evidence never passes."""
    if tally is None:
        return GuardState.OPEN
    is_unclear = quorum.inconclusive is not None and tally.inconclusive > quorum.inconclusive
    if tally.failures > quorum.failures or is_unclear:
        return GuardState.BROKEN
    if tally.waived_by is not None:
        return GuardState.WAIVED
    match quorum.counting:
        case Counting.DISTINCT:
            passes = sum(judge in quorum.judges for judge in tally.passed_by)
        case Counting.CONSECUTIVE:
            passes = tally.passes
        case _:
            assert_never(quorum.counting)
    return GuardState.SATISFIED if passes >= quorum.passes else GuardState.OPEN


def is_news(quorum: Quorum, tally: GuardTally | None, outcome: Outcome) -> bool:
    """Whether a verdict changes how a quorum stands, or how far it is.

    A pass of one that is satisfied does not, and neither does a judge who again says nothing where that is not counted.
    """
    if tally is None:
        return True
    match outcome:
        case Outcome.PASS:
            return quorum_state(quorum, tally) is GuardState.OPEN
        case Outcome.INCONCLUSIVE:
            return quorum.inconclusive is not None or tally.inconclusive == 0
        case Outcome.FAIL | Outcome.WAIVED:
            return True
        case _:
            assert_never(outcome)


def _statuses(
    record: RolloutRecord, guards: WaveGuards, wave: int, since: datetime | None
) -> Iterator[GuardStatus]:
    if guards.bake_minutes:
        tally = record.guard_tally(wave, BAKE)
        until = None if since is None else since + timedelta(minutes=guards.bake_minutes)
        yield GuardStatus(BAKE, _bake_state(tally), tally, until)
    for name, quorum in guards.quorums.items():
        tally = record.guard_tally(wave, name)
        yield GuardStatus(name, quorum_state(quorum, tally), tally)


def _bake_state(tally: GuardTally | None) -> GuardState:
    if tally is None:
        return GuardState.OPEN
    return GuardState.SATISFIED if tally.waived_by is None else GuardState.WAIVED


def _bakes(view: FleetView) -> Iterator[tuple[RolloutId, int, datetime]]:
    """Yield the bakes that are being waited for, with when each is over."""
    for rollout_id in view.live_rollouts():
        record = view.rollout(rollout_id)
        if record.guarded_since is None or record.state.is_halted:
            continue
        guarded = next_guards(record, view.terms(rollout_id))
        for guard in () if guarded is None else guarded.guards:
            if guard.until is not None and guard.state is GuardState.OPEN:
                yield rollout_id, record.current_wave + 1, guard.until
