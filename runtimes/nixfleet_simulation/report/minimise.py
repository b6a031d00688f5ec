"""Makes a failing scenario smaller: removes acts, faulty closures and hosts while the same promise breaks.

Delta debugging: large parts first, then smaller ones. Removing a part does not change the draws of the rest,
since every random stream belongs to a name.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from attrs import evolve

from nixfleet_simulation.judge.promises import Promise, PromiseBroken
from nixfleet_simulation.nodes.agenda import SECOND
from nixfleet_simulation.nodes.production_parts import PRODUCTION, Parts
from nixfleet_simulation.run.run import run
from nixfleet_simulation.scenario.acts import Act, Release
from nixfleet_simulation.scenario.scenario import ChannelLayout, Scenario

RUNS_MAX = 300
SETTLING_SECONDS = 1.0

T = TypeVar("T")


def minimise(
    scenario: Scenario,
    broken: PromiseBroken,
    parts: Parts = PRODUCTION,
    *,
    runs_max: int = RUNS_MAX,
) -> Scenario:
    """Return a smaller scenario that breaks the same promise, the smallest found in `runs_max` runs."""
    attempt = _Attempt(broken.promise, parts, runs_max)
    smaller = attempt.first_that_breaks(_cut_short(scenario, broken), scenario)
    smaller = _with_fewer_acts(smaller, attempt)
    smaller = _with_fewer_hosts(smaller, attempt)
    smaller = _with_plainer_releases(smaller, attempt)
    return _with_fewer_acts(smaller, attempt)


class _Attempt:
    """Runs candidates, up to a maximum, to see whether they break the promise."""

    def __init__(self, promise: Promise, parts: Parts, runs_max: int) -> None:
        self._promise = promise
        self._parts = parts
        self._runs_left = runs_max

    def breaks(self, candidate: Scenario) -> bool:
        """Return whether `candidate` breaks the promise; false when no runs are left."""
        if self._runs_left <= 0:
            return False
        self._runs_left -= 1
        broken = run(candidate, self._parts).broken
        return broken is not None and broken.promise is self._promise

    def first_that_breaks(self, candidate: Scenario, otherwise: Scenario) -> Scenario:
        """Return `candidate` if it breaks the promise."""
        return candidate if self.breaks(candidate) else otherwise


def _cut_short(scenario: Scenario, broken: PromiseBroken) -> Scenario:
    """Remove everything after the moment at which the promise broke."""
    seconds = broken.moment / SECOND
    busy = min(scenario.busy_seconds, seconds + SETTLING_SECONDS)
    acts = tuple(act for act in scenario.acts if act.at_seconds <= seconds)
    return evolve(scenario, acts=acts, busy_seconds=busy)


def _with_fewer_acts(scenario: Scenario, attempt: _Attempt) -> Scenario:
    def breaks(acts: Sequence[Act]) -> bool:
        return attempt.breaks(evolve(scenario, acts=tuple(acts)))

    return evolve(scenario, acts=tuple(_fewest(scenario.acts, breaks)))


def _fewest(items: Sequence[T], breaks: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Return a part of `items` that still breaks and from which no single item can be removed."""
    size = max(1, len(items) // 2)
    while True:
        smaller = _without_parts(items, size, breaks)
        if size == 1 and len(smaller) == len(items):
            return items
        items, size = smaller, max(1, size // 2)


def _without_parts(
    items: Sequence[T], size: int, breaks: Callable[[Sequence[T]], bool]
) -> Sequence[T]:
    at = 0
    while at < len(items):
        left = [*items[:at], *items[at + size :]]
        if len(left) < len(items) and breaks(left):
            items = left
        else:
            at += size
    return items


def _with_fewer_hosts(scenario: Scenario, attempt: _Attempt) -> Scenario:
    for host in scenario.hosts:
        candidate = _without_host(scenario, host)
        if candidate is not None:
            scenario = attempt.first_that_breaks(candidate, scenario)
    return scenario


def _without_host(scenario: Scenario, host: str) -> Scenario | None:
    channels = tuple(filter(None, (_channel_without(each, host) for each in scenario.channels)))
    names = {channel.name for channel in channels}
    acts = tuple(_act_without(act, host) for act in scenario.acts if _names_only(act, names, host))
    enrolling = tuple(each for each in scenario.enrolling if each != host)
    if not channels:
        return None
    return evolve(scenario, channels=channels, acts=acts, enrolling=enrolling)


def _channel_without(channel: ChannelLayout, host: str) -> ChannelLayout | None:
    waves = tuple(filter(None, (tuple(h for h in wave if h != host) for wave in channel.waves)))
    edges = tuple(edge for edge in channel.edges if host not in edge)
    return evolve(channel, waves=waves, edges=edges) if waves else None


def _act_without(act: Act, host: str) -> Act:
    if not isinstance(act, Release):
        return act
    return evolve(act, behaviours=tuple(each for each in act.behaviours if each[0] != host))


def _names_only(act: Act, channels: set[str], left_out: str) -> bool:
    if getattr(act, "channel", None) not in (None, *channels):
        return False
    return left_out not in (getattr(act, name, None) for name in ("host", "node", "by"))


def _with_plainer_releases(scenario: Scenario, attempt: _Attempt) -> Scenario:
    for candidate in _plainer(scenario):
        scenario = attempt.first_that_breaks(evolve(scenario, acts=candidate), scenario)
    return scenario


def _plainer(scenario: Scenario) -> Iterator[tuple[Act, ...]]:
    """Yield the acts with the closures of one release made good."""
    for at, act in enumerate(scenario.acts):
        if isinstance(act, Release) and act.behaviours:
            yield (*scenario.acts[:at], evolve(act, behaviours=()), *scenario.acts[at + 1 :])
