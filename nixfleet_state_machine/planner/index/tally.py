"""Counts of hosts, which waves, gates and progress read.

Hosts that do not count in their wave are in no number but `absent`.
"""

from collections.abc import Iterable
from typing import NamedTuple, assert_never

from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.state import Standing


class Tally(NamedTuple):
    """Hosts of a wave or of a rollout. A tuple: two are made for each host event.

    total: those the terms name, with a record or not. eligible: Converged or Deferred.
    settled: Soaking, Deferred or Converged, and not `failed`. converged: Converged.
    failing: not hosts but enforce controls, those whose latest result is a Fail; not of hosts that may fail and did.
    undeclared: Soaking or Converged without having declared their probes; not those that may fail and did.
    failed: Failed or Reverted, or trying again after that, or silent past a deadline that says so.
    absent: not in `total`: those that the wave does not wait for, because they do not come.
    """

    total: int
    eligible: int
    settled: int
    converged: int
    failing: int
    undeclared: int
    failed: int = 0
    absent: int = 0

    def replaced(self, before: "Tally", after: "Tally") -> "Tally":
        """Return the tally when one host's part in it is `after` instead of `before`."""
        return Tally(
            self.total - before.total + after.total,
            self.eligible - before.eligible + after.eligible,
            self.settled - before.settled + after.settled,
            self.converged - before.converged + after.converged,
            self.failing - before.failing + after.failing,
            self.undeclared - before.undeclared + after.undeclared,
            self.failed - before.failed + after.failed,
            self.absent - before.absent + after.absent,
        )


NOBODY = Tally(0, 0, 0, 0, 0, 0, 0, 0)
ABSENT = NOBODY._replace(absent=1)
_LAPSED = NOBODY._replace(total=1, failed=1)


def unheard(count: int) -> Tally:
    """Return the tally of hosts without a record."""
    return NOBODY._replace(total=count)


def tally_of(
    state: HostState | None,
    is_declared: bool,
    failing: int,
    has_failed: bool,
    is_tolerant: bool,
    standing: Standing,
) -> Tally:
    """Return the tally of one host.

    state: `None` while it has no record. is_tolerant: its wave may have failed hosts.
    """
    match standing:
        case Standing.COUNTED:
            return _counted(state, is_declared, failing, has_failed, is_tolerant)
        case Standing.LAPSED:
            return _LAPSED
        case Standing.AWAY | Standing.SKIPPED:
            return ABSENT
        case Standing.EXCUSED | Standing.LATE | Standing.LEFT:
            return NOBODY
        case _:
            assert_never(standing)


def _counted(
    state: HostState | None, is_declared: bool, failing: int, has_failed: bool, is_tolerant: bool
) -> Tally:
    if state is None:
        return unheard(1)._replace(failing=failing)
    runs = state is HostState.SOAKING or state is HostState.CONVERGED
    # Nobody waits for a host that may fail and did, whatever it does now.
    is_awaited = not (has_failed and is_tolerant)
    return Tally(
        total=1,
        eligible=int(state.is_ordering_eligible),
        # A host that tries again counts once: as failed until it succeeds.
        settled=int((runs or state is HostState.DEFERRED) and not has_failed),
        converged=int(state is HostState.CONVERGED),
        failing=failing if is_awaited else 0,
        undeclared=int(runs and not is_declared and is_awaited),
        failed=int(has_failed),
        absent=0,
    )


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """Return the tally of all these hosts together."""
    columns = zip(NOBODY, *tallies, strict=True)
    return Tally(*map(sum, columns))
