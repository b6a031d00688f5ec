"""A second implementation of tolerance and verdicts: how the hosts of a wave count, and the result. Numbers only.

Counted from the hosts at each call, so that no order of facts can matter.
Source: docs/spec/policy.md, The verdict of a wave.
"""

from collections.abc import Iterable
from math import floor
from typing import Final

from attrs import define

from nixfleet_simulation.judge.model.host_model import HostModel
from nixfleet_simulation.scenario.scenario import ChannelLayout

GOING: Final = "going on"
DONE: Final = "done"
BROKEN: Final = "broken"

SILENT: Final = frozenset({"away", "lapsed"})
ABSENT: Final = frozenset({"away", "skipped"})
ENDS_WITH_A_FACT: Final = frozenset({"away", "lapsed", "skipped"})
FOR_NOTHING: Final = frozenset({"excused", "late", "left"})


def allowed(layout: ChannelLayout, wave: int) -> int:
    """Return how many hosts of the wave may fail, of those that were signed."""
    policy = layout.policy
    own = policy.of_waves[wave] if policy.of_waves else policy.tolerance
    if own.max_failures is None and own.max_failure_pct is None:
        own = policy.tolerance
    share = own.max_failure_pct
    size = len(layout.waves[wave])
    limits = [] if own.max_failures is None else [own.max_failures]
    limits += [] if share is None else [floor(size * share / 100)]
    return min(limits) if limits else 0


@define
class Count:
    """The hosts of a wave. eligible: Converged or Deferred. settled: those, and Soaking for the first time.

    is_waived: an operator lets the wave be done though nobody came.
    """

    total: int = 0
    eligible: int = 0
    settled: int = 0
    converged: int = 0
    failed: int = 0
    absent: int = 0
    is_waived: bool = False

    def verdict(self, succeeded: int, may_fail: int) -> str:
        """Return whether the wave is going on, done or broken."""
        if self.failed > may_fail:
            return BROKEN
        if succeeded + self.failed < self.total:
            return GOING
        is_nobody_there = self.total == 0 and (self.absent == 0 or self.is_waived)
        return DONE if succeeded > 0 or is_nobody_there else BROKEN


def count(hosts: Iterable[tuple[HostModel, str]]) -> Count:
    """Return the count of hosts with their standings."""
    result = Count()
    for host, standing in hosts:
        if standing in ABSENT:
            result.absent += 1
        if standing in ABSENT or standing in FOR_NOTHING:
            continue
        result.total += 1
        if standing == "lapsed":
            result.failed += 1
            continue
        result.failed += host.counts_as_failed
        result.eligible += host.is_eligible
        result.converged += host.state == "Converged"
        result.settled += host.is_settled and not host.counts_as_failed
    return result
