"""A second implementation of the gates: which of them hold a host. As simple as possible.

Source: docs/spec/planner.md, Gates.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from datetime import datetime

from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_simulation.judge.model.pace import Minutes, is_ramp_full
from nixfleet_simulation.judge.model.rollout_model import DONE, RolloutModel
from nixfleet_simulation.judge.model.steering.calendar import is_closed
from nixfleet_simulation.scenario.scenario import ChannelLayout


class Gates:
    """Evaluates every gate at each call. Filled by the log reader."""

    def __init__(self, is_revoked: Callable[[str], bool]) -> None:
        """is_revoked: whether no key speaks for a host any more; it is held in no table."""
        self._is_revoked = is_revoked
        self.rollouts: dict[str, RolloutModel] = {}
        self.in_force: dict[str, str] = {}
        self.holds: dict[tuple[str, str], str | None] = {}
        """The end of each hold, by scope and source."""
        self.calendars: dict[str, tuple[CalendarEntry, ...]] = {}
        """Of the fleet in which the manifest in force of each channel is anchored."""
        self.quarantined: dict[str, set[str]] = {}
        self.minutes = Minutes()
        self.now: datetime
        """When the input is handled that is judged."""

    def paused_scopes(self) -> set[str]:
        """Return the scopes that wait for an operator: their holds have no end."""
        return {
            scope
            for (scope, source), until in self.holds.items()
            if until is None and not is_by_calendar(source)
        }

    def resume(self, scope: str, operator: str) -> None:
        """Lift what a resume lifts: a contradiction, and the operator's own pause or the only one."""
        self.holds.pop((scope, "contradiction"), None)
        pauses = [
            key
            for key, until in self.holds.items()
            if until is None and key[0] == scope and key[1].startswith("operator:")
        ]
        own = (scope, f"operator:{operator}")
        if own in pauses or len(pauses) == 1:
            del self.holds[own if own in pauses else pauses[0]]

    def forget_rollout(self, rollout_id: str) -> None:
        """Drop the holds of a rollout and of its waves."""
        for scope, source in list(self.holds):
            word, _, rest = scope.partition(":")
            if scope == rollout_id or (word == "wave" and rest.partition(":")[2] == rollout_id):
                del self.holds[scope, source]

    def withdrawing(self, model: RolloutModel, host: str) -> str | None:
        """Return the first gate that withdraws a queued dispatch, `None` if none does."""
        return next(self._withdrawing(model, host), None)

    def first(self, model: RolloutModel, host: str) -> str | None:
        """Return the first gate that holds `host`, `None` if none does."""
        return next(self._all(model, host), None)

    def _withdrawing(self, model: RolloutModel, host: str) -> Iterator[str]:
        channel = model.layout.name
        if model.hosts[host].target in self.quarantined.get(channel, ()):
            yield "quarantine"
        is_late = model.due.state == "Terminal" and model.is_served_late(host)
        if model.is_halted or not (model.is_live or is_late):
            yield "rollout-halted"
        scopes = {
            "fleet:all",
            channel,
            model.rollout_id,
            f"wave:{model.wave_of[host]}:{model.rollout_id}",
            f"host:{host}",
        }
        is_held = any(
            scope in scopes and not is_by_calendar(source) for scope, source in self.holds
        )
        if self._is_revoked(host) or is_held or self._is_closed(model.layout, host):
            yield "operator-hold"

    def _is_closed(self, layout: ChannelLayout, host: str) -> bool:
        """Return whether a calendar keeps the host from beginning, whatever the log says of it."""
        entries = self.calendars.get(layout.name, ())
        deadline = layout.policy.deadlines.activation
        needed = 0 if deadline is None else deadline.minutes
        return bool(entries) and is_closed(entries, layout.name, host, needed, self.now)

    def _all(self, model: RolloutModel, host: str) -> Iterator[str]:
        yield from self._withdrawing(model, host)
        if any(self._is_incomplete(channel) for channel in model.layout.after):
            yield "channel-edges"
        wave = model.wave_of[host]
        if wave > model.due.wave or model.is_early(self.now):
            yield "wave-promotion"
        if any(
            then == host
            and not model.hosts[first].is_eligible
            and model.standing(first) not in ("excused", "left")
            for first, then in model.layout.edges
        ):
            yield "host-edge"
        limit = model.layout.max_in_flight
        # One that is down keeps its slot, and tries again in it.
        others = self.in_flight(model.layout.name) - model.takes_slot(host)
        is_full = limit is not None and others >= limit
        if is_full or is_ramp_full(model) or self.minutes.is_full(model.layout):
            yield "disruption-budget"
        before = model.awaited_before(wave)
        if any(earlier.failing for earlier in before):
            yield "compliance-wave"
        if any(earlier.is_undeclared for earlier in before):
            yield "probe-topology"

    def _is_incomplete(self, channel: str) -> bool:
        """Return whether the channel has a manifest in force whose rollout is not complete."""
        rollout_id = self.in_force.get(channel)
        if rollout_id is None:
            return False
        model = self.rollouts.get(rollout_id)
        return model is None or not (model.due.state in DONE or model.was_done)

    def in_flight(self, channel: str) -> int:
        """Return how many hosts of the channel's budget are in flight, over all its rollouts that are served."""
        return sum(
            rollout.takes_slot(host)
            for rollout in self.rollouts.values()
            if rollout.layout.name == channel
            for host in rollout.hosts
        )


def is_by_calendar(source: str) -> bool:
    """Return whether a hold is one of a window or of a freeze. Whether it should be on is not taken from the log."""
    return source.startswith(("window:", "freeze:"))


def differing(expected: Mapping[str, Set[str]], found: Mapping[str, Set[str]]) -> str | None:
    """Return where two maps of sets differ, empty sets aside."""
    for key in sorted(expected.keys() | found.keys()):
        should, does = expected.get(key, set()), found.get(key, set())
        if should != does:
            return f"{key}: expected {sorted(should)}, found {sorted(does)}"
    return None
