"""Durations drawn for one run: from what was observed, bootstrapped, and conditioned on what has passed already.

A host's own observations count the more, the more there are: with n of its own, one of them is drawn in n of n + 4
cases, otherwise one of the fleet. Every run draws the fleet's observations anew, with replacement, so that few of them
give wide ranges. The same seed and run give the same durations.
Rejected: a fitted distribution. Stages have several modes (a laptop that is open, and one that is not), and each fit
that was tried put the middle of two modes where no host ever was.
Source: docs/spec/forecast.md, Draws.
"""

from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

from nixfleet_forecast.durations import OBSERVATIONS_MIN, Durations, quantile
from nixfleet_state_machine.rollout.event import Stage

_SHRINKAGE: Final = 4
_STEADY_SECONDS: Final = 60.0
_BOOTSTRAP_MAX: Final = 200
_LONGEST_SECONDS: Final = 90 * 24 * 3600.0


class Drawn(Protocol):
    """Gives the durations of one run."""

    def draw(self, stage: Stage, hostname: str, passed_seconds: float = 0.0) -> float | None:
        """Return how many seconds the stage takes on a host, of which `passed_seconds` have passed, in all.

        `None`: not known.
        """
        ...


class SteadyDraws:
    """Every stage takes one minute more, on every host: to see what follows, and not when."""

    def draw(self, stage: Stage, hostname: str, passed_seconds: float = 0.0) -> float | None:
        """Return how many seconds the stage takes in all."""
        return passed_seconds + _STEADY_SECONDS


class MedianDraws:
    """Every stage takes as long as half of the fleet's did; a minute, where nothing was observed."""

    def __init__(self, durations: Durations) -> None:
        self._medians = {
            stage: quantile(sorted(observed), 0.5)
            for stage in Stage
            if (observed := durations.fleet(stage))
        }

    def draw(self, stage: Stage, hostname: str, passed_seconds: float = 0.0) -> float | None:
        """Return how many seconds the stage takes in all."""
        return max(self._medians.get(stage, _STEADY_SECONDS), passed_seconds)


class Draws:
    """The durations of one run. Of a stage that was observed too rarely there is none."""

    def __init__(self, durations: Durations, seed: int, run: int) -> None:
        self._durations = durations
        self._random = Random(f"{seed}:{run}")
        self._fleet = {stage: self._drawn_again(durations.fleet(stage)) for stage in Stage}

    def draw(self, stage: Stage, hostname: str, passed_seconds: float = 0.0) -> float | None:
        """Return how many seconds the stage takes on a host, of which `passed_seconds` have passed, in all.

        `None`: fewer than five such stages were observed.
        """
        fleet = self._fleet[stage]
        if not fleet:
            return None
        own = [it for it in self._durations.host(stage, hostname) if it >= passed_seconds]
        if own and self._random.random() < len(own) / (len(own) + _SHRINKAGE):
            return self._random.choice(own)
        longer = fleet if not passed_seconds else [it for it in fleet if it >= passed_seconds]
        if longer:
            return self._random.choice(longer)
        # It takes longer than any did: half of such hosts take as long again (Lindy's rule).
        share = max(self._random.random(), passed_seconds / _LONGEST_SECONDS, 1e-6)
        return passed_seconds / share

    def _drawn_again(self, observed: Sequence[float]) -> list[float]:
        if len(observed) < OBSERVATIONS_MIN:
            return []
        return self._random.choices(observed, k=min(len(observed), _BOOTSTRAP_MAX))
