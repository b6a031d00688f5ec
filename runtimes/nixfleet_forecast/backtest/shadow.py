"""Where another policy would stand now, beside the recorded one, on the same facts.

Source: docs/spec/forecast.md, Shadow policies.
"""

from collections.abc import Iterator, Sequence

from attrs import frozen

from nixfleet_forecast.backtest.backtest import BackTest, RolloutCourse
from nixfleet_proto.ids import RolloutId

_NAMED_MAX = 5


@frozen
class Difference:
    """Where a rollout would be otherwise. text: what would be, and what is."""

    rollout_id: RolloutId
    text: str


def differences(recorded: BackTest, other: BackTest) -> tuple[Difference, ...]:
    """Return where the rollouts of `other` differ from the recorded ones, both as far as the log goes; by rollout."""
    courses = {it.rollout_id: it for it in other.rollouts}
    return tuple(
        Difference(course.rollout_id, text)
        for course in sorted(recorded.rollouts, key=lambda it: it.rollout_id)
        if course.rollout_id in courses
        for text in _texts(course, courses[course.rollout_id])
    )


def _texts(is_: RolloutCourse, would: RolloutCourse) -> Iterator[str]:
    if (is_.state, is_.wave) != (would.state, would.wave):
        yield f"would be {would.state} at wave {would.wave}, is {is_.state} at wave {is_.wave}"
    earlier, later = would.begun - is_.begun, is_.begun - would.begun
    if earlier:
        yield f"would have begun {_named(sorted(earlier))}, which did not begin"
    if later:
        yield f"would not have begun {_named(sorted(later))}, which began"
    if is_.harmed != would.harmed:
        yield f"would have harmed {len(would.harmed)} hosts, harmed {len(is_.harmed)}"


def _named(hosts: Sequence[str]) -> str:
    more = len(hosts) - _NAMED_MAX
    named = ", ".join(hosts[:_NAMED_MAX])
    return f"{named} and {more} more" if more > 0 else named
