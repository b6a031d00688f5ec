"""What people see of a rollout, against a walk over its hosts: the counts of an overview are kept, and never walked.

The walk is over the model of the log, which is no part of the product.
Source: docs/spec/overview.md.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from nixfleet_control_plane.engine.state import State
from nixfleet_control_plane.overview import rollouts as overviews
from nixfleet_runtime.http.overview import Course
from nixfleet_runtime.kernel.zones import SystemZones
from nixfleet_simulation.judge.model.rollout_model import RolloutModel
from nixfleet_simulation.judge.promises import Broken, Promise

EVERY: Final = 100
"""Judged at each so many commits, and at the end."""
_COUNTED: Final = "counted"


class OverviewJudge:
    """Judges the counts of overviews."""

    def __init__(self) -> None:
        self.checks = 0
        self._zones = SystemZones()
        self._commits = 0

    def kept(self, state: State, models: Mapping[str, RolloutModel], now: datetime) -> None:
        """A commit became durable. now: by the control plane's clock. Raises: Broken."""
        self._commits += 1
        if self._commits % EVERY == 0:
            self.look(state, models, now)

    def look(self, state: State, models: Mapping[str, RolloutModel], now: datetime) -> None:
        """Compare every overview with a walk. Raises: Broken."""
        shown = overviews.rollout_overviews(state, self._zones, now, {})
        for overview in shown:
            if overview.course is Course.LOST:
                continue
            model = models.get(overview.rollout_id)
            if model is None:
                raise Broken(
                    Promise.SEEN_IS_SO, f"{overview.rollout_id} is shown, and not in the log"
                )
            self._require(
                str(overview.rollout_id), "", (overview.states, overview.standings), walked(model)
            )
            for wave in overview.waves:
                kept = wave.states, wave.standings
                self._require(
                    str(overview.rollout_id), f" wave {wave.wave}", kept, walked(model, wave.wave)
                )
            waiting = sum(model.is_waiting(host) for host in model.hosts)
            if overview.waiting != waiting:
                found = f"{overview.rollout_id}: {overview.waiting} hosts are shown as waiting, and {waiting} are"
                raise Broken(Promise.SEEN_IS_SO, found)

    def _require(
        self,
        rollout_id: str,
        where: str,
        kept: tuple[Mapping[str, int], Mapping[str, int]],
        walk: tuple[Counter[str], Counter[str]],
    ) -> None:
        self.checks += 1
        found = tuple({name: count for name, count in each.items() if count} for each in kept)
        if found != tuple(map(dict, walk)):
            text = f"{rollout_id}{where}: {found} are shown, and a walk finds {walk}"
            raise Broken(Promise.SEEN_IS_SO, text)


def walked(model: RolloutModel, *waves: int | None) -> tuple[Counter[str], Counter[str]]:
    """Return the hosts that count by their state, and the others by their standing; of one wave, if it is given."""
    states, standings = Counter[str](), Counter[str]()
    for name, host in model.hosts.items():
        if waves and model.wave_of.get(name) not in waves:
            continue
        standing = model.standing(name)
        if standing == _COUNTED:
            states[host.state] += 1
        else:
            standings[standing] += 1
    return states, standings
