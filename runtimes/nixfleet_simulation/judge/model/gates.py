"""The gates of docs/spec/planner.md, Gates, a second time: which hold a host, by the courses of all rollouts."""

from collections.abc import Iterator, Mapping, Set

from nixfleet_simulation.judge.model.rollout_course import DONE, RolloutCourse


class Gates:
    """Asks every gate anew each time. Shared with the ledger that fills it."""

    def __init__(self) -> None:
        self.rollouts: dict[str, RolloutCourse] = {}
        self.in_force: dict[str, str] = {}
        self.holds: set[str] = set()
        self.quarantined: dict[str, set[str]] = {}

    def withdrawing(self, course: RolloutCourse, host: str) -> str | None:
        """Return the first gate that also takes back a dispatch which was queued."""
        return next(self._withdrawing(course, host), None)

    def first(self, course: RolloutCourse, host: str) -> str | None:
        """Return the first gate that holds `host`; `None`: it may go."""
        return next(self._all(course, host), None)

    def _withdrawing(self, course: RolloutCourse, host: str) -> Iterator[str]:
        channel = course.layout.name
        if course.hosts[host].target in self.quarantined.get(channel, ()):
            yield "quarantine"
        if course.is_halted or not course.is_live:
            yield "rollout-halted"
        if channel in self.holds or course.rollout_id in self.holds:
            yield "operator-hold"

    def _all(self, course: RolloutCourse, host: str) -> Iterator[str]:
        yield from self._withdrawing(course, host)
        if any(self._holds_up(channel) for channel in course.layout.after):
            yield "channel-edges"
        wave = course.wave_of[host]
        if wave > course.due.wave:
            yield "wave-promotion"
        if any(
            then == host and not course.hosts[first].is_eligible and first not in course.excused
            for first, then in course.layout.edges
        ):
            yield "host-edge"
        limit = course.layout.max_in_flight
        if limit is not None and self.in_flight(course.layout.name) >= limit:
            yield "disruption-budget"
        before = course.counted_before(wave)
        if any(earlier.failing for earlier in before):
            yield "compliance-wave"
        if any(earlier.is_undeclared for earlier in before):
            yield "probe-topology"

    def _holds_up(self, channel: str) -> bool:
        """Whether the predecessor has a manifest in force whose rollout is not done."""
        rollout_id = self.in_force.get(channel)
        if rollout_id is None:
            return False
        course = self.rollouts.get(rollout_id)
        return course is None or not (course.due.state in DONE or course.was_done)

    def in_flight(self, channel: str) -> int:
        """Return how many hosts of the channel's budget are in flight, over all its live rollouts."""
        return sum(
            course.is_in_flight
            for rollout in self.rollouts.values()
            if rollout.layout.name == channel and rollout.is_live
            for course in rollout.hosts.values()
        )


def differing(expected: Mapping[str, Set[str]], found: Mapping[str, Set[str]]) -> str | None:
    """Return where two maps of sets differ, empty sets aside."""
    for key in sorted(expected.keys() | found.keys()):
        should, does = expected.get(key, set()), found.get(key, set())
        if should != does:
            return f"{key}: expected {sorted(should)}, found {sorted(does)}"
    return None
