"""The headline of a rollout, one sentence, and its verdict in a word.

Source: docs/spec/overview.md, The headline.
"""

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from attrs import frozen

from nixfleet_control_plane.overview.words import hosts_words
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.listings import ListedGuards
from nixfleet_runtime.http.overview import Course, WaitingHosts
from nixfleet_state_machine.planner.action import Gate
from nixfleet_state_machine.rollout.state import RolloutState

_HOLDING: Final = (Gate.OPERATOR_HOLD, Gate.QUARANTINE, Gate.CHANNEL_EDGES)
"""The gates that keep hosts from beginning although others are under way."""


@frozen
class Progress:
    """What the headline is made of. total: hosts that count. waiting: hosts that wait for a dispatch.

    waits: the greatest groups of them first. guards: of the next wave. is_tolerated: every failure so far is.
    """

    rollout_id: RolloutId
    state: RolloutState
    total: int
    converged: int
    failed: int
    in_flight: int
    waiting: int
    waits: Sequence[WaitingHosts] = ()
    guards: ListedGuards | None = None
    is_tolerated: bool = False


def course_of(progress: Progress) -> Course:
    """Return the verdict."""
    match progress.state:
        case RolloutState.ABORTED:
            return Course.ABORTED
        case RolloutState.FAILED | RolloutState.REVERTED:
            return Course.HALTED
        case RolloutState.TERMINAL:
            return Course.COMPLETE
        case RolloutState.SUPERSEDED | RolloutState.PRUNED:
            return Course.SUPERSEDED
        case RolloutState.OPENING | RolloutState.ACTIVE | RolloutState.CONVERGING:
            if _is_held(progress):
                return Course.HELD
            return Course.HAS_FAILURES if progress.failed else Course.GOING_WELL
        case _:
            assert_never(progress.state)


def headline_of(progress: Progress, course: Course) -> str:
    """Return the sentence: `stable@r2 is going well: 1,552 of 10,000 hosts have converged, none failed.`"""
    verb = "" if course is Course.HAS_FAILURES else "is "
    reason = f"; {_why_held(progress)}" if course is Course.HELD else ""
    return f"{progress.rollout_id} {verb}{course}: {', '.join(_numbers(progress))}{reason}."


def _is_held(progress: Progress) -> bool:
    """Whether no host begins now: nothing is under way, or all that wait are held by something that others cannot end.

    While hosts are under way, a wave that waits for another one, or for a slot, goes on by itself.
    """
    if not progress.waiting:
        return False
    held = sum(group.hosts for group in progress.waits if group.gate in _HOLDING)
    return progress.in_flight == 0 or held == progress.waiting


def _why_held(progress: Progress) -> str:
    holding = next((group for group in progress.waits if group.gate in _HOLDING), None)
    if holding is not None:
        return holding.reason
    guards = progress.guards
    if guards is not None and guards.since is not None and guards.lacking:
        return f"wave {guards.wave} waits for {'; '.join(guards.lacking)}"
    return progress.waits[0].reason if progress.waits else "its hosts wait"


def _numbers(progress: Progress) -> Iterator[str]:
    converged, total = progress.converged, progress.total
    if not total:
        yield "no host counts"
    elif converged == total:
        yield f"all {hosts_words(total)} have converged" if total > 1 else "its host has converged"
    else:
        verb = "has" if converged == 1 or total == 1 else "have"
        yield f"{converged:,} of {hosts_words(total)} {verb} converged"
    if not progress.failed:
        if converged < total:
            yield "none failed"
    elif progress.is_tolerated:
        yield f"{progress.failed:,} failed and {'is' if progress.failed == 1 else 'are'} tolerated"
    else:
        yield f"{progress.failed:,} {'has' if progress.failed == 1 else 'have'} failed"
