"""Counts of hosts, which waves, gates and progress read.

Excused hosts are not counted.
"""

from collections.abc import Iterable
from typing import NamedTuple

from nixfleet_state_machine.host.state import HostState


class Tally(NamedTuple):
    """Hosts of a wave or of a rollout. A tuple: two are made for each host event.

    total: those the terms name, with a record or not. eligible: Converged or Deferred.
    settled: Soaking, Deferred or Converged. converged: Converged.
    failing: not hosts but enforce controls, those whose latest result is a Fail.
    undeclared: Soaking or Converged without having declared their probes.
    """

    total: int
    eligible: int
    settled: int
    converged: int
    failing: int
    undeclared: int

    def replaced(self, before: "Tally", after: "Tally") -> "Tally":
        """Return the tally when one host's part in it is `after` instead of `before`."""
        return Tally(
            self.total - before.total + after.total,
            self.eligible - before.eligible + after.eligible,
            self.settled - before.settled + after.settled,
            self.converged - before.converged + after.converged,
            self.failing - before.failing + after.failing,
            self.undeclared - before.undeclared + after.undeclared,
        )


NOBODY = Tally(0, 0, 0, 0, 0, 0)


def absent(count: int) -> Tally:
    """Return the tally of hosts without a record."""
    return Tally(count, 0, 0, 0, 0, 0)


def tally_of(state: HostState | None, is_declared: bool, failing: int) -> Tally:
    """Return the tally of one host; `state` is `None` while it has no record."""
    if state is None:
        return Tally(1, 0, 0, 0, failing, 0)
    runs = state is HostState.SOAKING or state is HostState.CONVERGED
    return Tally(
        total=1,
        eligible=int(state.is_ordering_eligible),
        settled=int(runs or state is HostState.DEFERRED),
        converged=int(state is HostState.CONVERGED),
        failing=failing,
        undeclared=int(runs and not is_declared),
    )


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """Return the tally of all these hosts together."""
    columns = zip(NOBODY, *tallies, strict=True)
    return Tally(*map(sum, columns))
