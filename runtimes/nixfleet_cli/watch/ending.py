"""When `nixfleet watch --until` ends, and whether that is what was waited for. Pure.

Source: docs/how-to/watching-a-fleet.md, Following a rollout.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from attrs import frozen

from nixfleet_proto.checked import WordEnum
from nixfleet_runtime.http.overview import Course, Overview, RolloutOverview


class Until(WordEnum):
    """What is waited for. The values are those of `--until`.

    DONE: every watched rollout is complete. HALTED: one of them goes on by no means but an operator.
    DECISION: something needs a person.
    """

    DONE = "done"
    HALTED = "halted"
    DECISION = "decision"


@frozen
class Ending:
    """Nothing more is waited for. is_reached: what was waited for has come. text: what is so, a sentence."""

    is_reached: bool
    text: str


_STOPPED: Final = frozenset({Course.HALTED, Course.ABORTED, Course.LOST})
_OVER: Final = frozenset({Course.COMPLETE, Course.SUPERSEDED, Course.ABORTED})


def ending_of(overview: Overview, until: Until) -> Ending | None:
    """Return the ending that `until` has by now, `None` while it is to be waited for.

    Nothing to watch yet is no ending: a release may come. A halted rollout ends a wait for DONE, for no time ends it.
    """
    rollouts = overview.rollouts
    if not rollouts:
        return None
    match until:
        case Until.DONE:
            return _done(rollouts)
        case Until.HALTED:
            return _stopped(rollouts, is_reached=True) or _over(rollouts)
        case Until.DECISION:
            needs = [need.text for each in rollouts for need in each.needs_you]
            needs += [need.text for need in overview.needs_you]
            return Ending(True, needs[0]) if needs else _over(rollouts)
        case _:
            assert_never(until)


def _done(rollouts: Sequence[RolloutOverview]) -> Ending | None:
    if all(each.course is Course.COMPLETE for each in rollouts):
        return Ending(True, " ".join(each.headline for each in rollouts))
    superseded = [each for each in rollouts if each.course is Course.SUPERSEDED]
    return _stopped(rollouts, is_reached=False) or (
        Ending(False, superseded[0].headline) if superseded else None
    )


def _stopped(rollouts: Sequence[RolloutOverview], *, is_reached: bool) -> Ending | None:
    stopped = [each for each in rollouts if each.course in _STOPPED]
    return Ending(is_reached, stopped[0].headline) if stopped else None


def _over(rollouts: Sequence[RolloutOverview]) -> Ending | None:
    """The rollouts are over, so what is waited for cannot come any more."""
    if all(each.course in _OVER for each in rollouts):
        return Ending(False, " ".join(each.headline for each in rollouts))
    return None
