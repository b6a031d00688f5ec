"""A second implementation of the pace of budgets: by looks at every host, and at every dispatch of the log.

Source: docs/spec/pace.md.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import Factory, define

from nixfleet_simulation.judge.model.rollout_model import RolloutModel
from nixfleet_simulation.scenario.scenario import ChannelLayout

MINUTE: Final = timedelta(minutes=1)


def is_ramp_full(model: RolloutModel) -> bool:
    """Return whether as many hosts of the rollout are under way as the ramp of its channel says."""
    layout = model.layout
    if layout.ramp is None:
        return False
    limit = len(layout.hosts) if layout.max_in_flight is None else layout.max_in_flight
    converged = sum(host.state == "Converged" for host in model.hosts.values())
    under_way = sum(model.is_under_way_itself(host) for host in model.hosts)
    slots, factor = layout.ramp
    slots = min(slots, limit)
    while converged >= slots and slots < limit and factor > 1:
        converged -= slots
        slots = min(slots * factor, limit)
    return under_way >= slots


@define
class Minutes:
    """The dispatches of each channel by the log.

    all: every one, for good. taken: those whose slots have not come back, by the rows that give them back.
    latest: the latest time of a row of these; a clock may be set back after it.
    """

    latest: datetime | None = None
    all: dict[str, list[datetime]] = Factory(dict[str, list[datetime]])
    taken: dict[str, list[datetime]] = Factory(dict[str, list[datetime]])

    def is_full(self, layout: ChannelLayout) -> bool:
        """Return whether no slot of the channel's minute is free."""
        taken = self.taken.get(layout.name, [])
        return layout.per_minute is not None and len(taken) >= layout.per_minute

    def dispatched(self, layout: ChannelLayout, at: datetime) -> str | None:
        """Note a dispatch; return why it comes too soon, `None` if it does not."""
        if layout.per_minute is None:
            return None
        begun = self.all.setdefault(layout.name, [])
        begun.append(at)
        self.taken.setdefault(layout.name, []).append(at)
        now = self._advance(at)
        recent = sum(now - MINUTE < each for each in begun)
        if recent > layout.per_minute:
            return f"{recent} hosts of {layout.name} begin in a minute, and {layout.per_minute} may"
        return None

    def returned(self, name: str, begun_by: datetime, count: int, now: datetime) -> str | None:
        """Note that slots came back; return why they may not, `None` if they may."""
        self._advance(now)
        before = self.taken.get(name, [])
        self.taken[name] = [at for at in before if at > begun_by]
        found = len(before) - len(self.taken[name])
        if begun_by > now - MINUTE or found != count or not found:
            return f"{count} slots of {name} since {begun_by} come back at {now}, and {found} may"
        return None

    def _advance(self, at: datetime) -> datetime:
        self.latest = at if self.latest is None else max(self.latest, at)
        return self.latest

    def due(self, now: datetime) -> Iterable[str]:
        """Return the channels of which a slot should have come back."""
        return [
            name for name, begun in self.taken.items() if any(at <= now - MINUTE for at in begun)
        ]

    def counts(self) -> Mapping[str, int]:
        """Return how many slots of each channel are taken."""
        return {name: len(begun) for name, begun in self.taken.items() if begun}
