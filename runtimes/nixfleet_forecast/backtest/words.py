"""Back-tests of several policies side by side, for people and as JSON.

Source: docs/spec/forecast.md, Back-tests.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from attrs import frozen

from nixfleet_forecast.backtest.backtest import BackTest, RolloutCourse
from nixfleet_forecast.backtest.recording import Recording

ASSUMPTIONS: Final = (
    "a host fails as long after its dispatch as it did, at every attempt, whatever the wave it is in",
    "a host that let a dispatch wait was away since the log has something of it, and comes back when it did",
    "operators and judges say what they said when they said it; a check answers once it is asked",
    "a host that no dispatch reached takes as long as half of the fleet's hosts did, and does not fail",
)
HEADER: Final = ("policy", "hosts harmed", "hours", "peak in flight", "ended", "taken to succeed")


@frozen
class Tested:
    """A policy by name, and how the rollouts went under it."""

    policy: str
    played: BackTest

    @property
    def harmed(self) -> int:
        """How many hosts failed at least once, over all rollouts."""
        return sum(len(it.harmed) for it in self.played.rollouts)

    @property
    def hours(self) -> float:
        """For how many hours rollouts were under way, those that ended, in all."""
        took = (it.took for it in self.played.rollouts)
        return sum(((it or timedelta(0)) for it in took), timedelta(0)) / timedelta(hours=1)

    @property
    def in_flight_max(self) -> int:
        """How many hosts of a rollout were under way at once at most."""
        return max((it.in_flight_max for it in self.played.rollouts), default=0)

    @property
    def ended(self) -> int:
        """How many rollouts came to an end, or were halted."""
        return sum(it.ended_at is not None for it in self.played.rollouts)

    def row(self) -> Sequence[str]:
        """Return the cells of a table under `HEADER`."""
        return (
            self.policy,
            str(self.harmed),
            f"{self.hours:.1f}",
            str(self.in_flight_max),
            f"{self.ended} of {len(self.played.rollouts)}",
            str(self.played.invented),
        )

    def as_json(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "policy": self.policy,
            "harmed": self.harmed,
            "hours": round(self.hours, 3),
            "inFlightMax": self.in_flight_max,
            "ended": self.ended,
            "takenToSucceed": self.played.invented,
            "rollouts": [_rollout(it) for it in self.played.rollouts],
            "notes": list(self.played.notes),
        }


def _rollout(course: RolloutCourse) -> dict[str, object]:
    return {
        "rolloutId": course.rollout_id,
        "state": course.state.value,
        "hosts": course.hosts,
        "openedAt": course.opened_at,
        "endedAt": course.ended_at,
        "harmed": sorted(course.harmed),
        "inFlightMax": course.in_flight_max,
    }


def rollout_rows(tested: Sequence[Tested]) -> Iterator[Sequence[str]]:
    """Yield a row for each rollout and policy: who was harmed, and how long it took."""
    for courses in zip(*(it.played.rollouts for it in tested), strict=False):
        for policy, course in zip(tested, courses, strict=True):
            took = "no end" if course.took is None else _hours(course.took)
            harmed = ", ".join(sorted(course.harmed)[:5]) or "none"
            more = len(course.harmed) - 5
            yield (
                course.rollout_id,
                policy.policy,
                took,
                f"{len(course.harmed)} of {course.hosts}",
                f"{harmed} and {more} more" if more > 0 else harmed,
            )


def _hours(took: timedelta) -> str:
    minutes = took // timedelta(minutes=1)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def differing(recording: Recording, played: BackTest) -> tuple[str, ...]:
    """Return the rollouts of which a back-test under the recorded policy does not end when they did; a fault."""
    ends = {it.rollout_id: it.ended_at for it in played.rollouts}
    return tuple(str(it) for it, at in recording.ended.items() if it in ends and ends[it] != at)
