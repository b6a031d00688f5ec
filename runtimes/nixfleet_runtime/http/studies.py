"""What is found by reading the log once more, on demand. Frozen data, and its JSON form.

Source: docs/spec/studies.md.
"""

from datetime import datetime
from typing import Final

from attrs import frozen

from nixfleet_proto.codec.strict import Absent, Coder, Spelling, camel_case
from nixfleet_proto.ids import RolloutId
from nixfleet_runtime.http.host_pages import HostMap
from nixfleet_runtime.http.overview import Overview
from nixfleet_state_machine.rollout.state import RolloutState


@frozen
class Past:
    """The fleet as it was at row `seq`, which was written `at`. head: the last row when that was found.

    overview: without what the log does not hold, such as who is silent. hosts: of each rollout that had records.
    """

    seq: int
    at: datetime
    head: int
    overview: Overview
    hosts: tuple[HostMap, ...]


@frozen
class ChangedSection:
    """Changes of one sort, as lines. more: how many further ones there are."""

    heading: str
    lines: tuple[str, ...]
    more: int = 0


@frozen
class TouchedWave:
    """A wave of a release. hosts: in it. touched: of them, those whose closure is not the one before."""

    wave: int | None
    hosts: int
    touched: int


@frozen
class ReleaseChanges:
    """What a release changed. before: the release of the channel before; `None`: it was the first.

    hosts, touched, waves: of the release. worst, tolerated: how many hosts it could cost; worst_text: that in words.
    """

    rollout_id: RolloutId
    before: RolloutId | None
    hosts: int
    touched: int
    waves: tuple[TouchedWave, ...]
    worst: int
    tolerated: int
    worst_text: str
    sections: tuple[ChangedSection, ...] = ()


@frozen
class TestedRollout:
    """A rollout under a policy. harmed: who failed. ended_at: when it was complete or halted; `None`: it was not."""

    rollout_id: RolloutId
    state: RolloutState
    hosts: int
    harmed: int
    in_flight_max: int
    opened_at: datetime
    ended_at: datetime | None = None


@frozen
class TestedPolicy:
    """A policy over all rollouts. seconds: for how long they were under way, in all. assumed: hosts that were taken to
    succeed. notes: what the policy met.
    """

    policy: str
    harmed: int
    seconds: int
    in_flight_max: int
    ended: int
    assumed: int
    rollouts: tuple[TestedRollout, ...]
    notes: tuple[str, ...] = ()


@frozen
class BackTestReport:
    """The recorded policies, and that of `rollout_id` in their place, over the log up to row `head`.

    differing: rollouts that do not end when they did under the recorded policy: a fault. kept: rollouts that keep the
    recorded policy, with why.
    """

    rollout_id: RolloutId
    head: int
    policies: tuple[TestedPolicy, ...]
    assumptions: tuple[str, ...]
    differing: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@frozen
class RowHash:
    """The hash of a row, in hexadecimal: over the row, and over the hash of the row before."""

    seq: int
    hash: str


@frozen
class LogChain:
    """How far the log is as it was written. text: that as a sentence. first: the first row that it has.

    intact_to: up to which row each follows from the one before. broken_at: the first that does not. hashes: of the rows
    asked for.
    """

    text: str
    first: int
    intact_to: int
    hashes: tuple[RowHash, ...]
    broken_at: int | None = None
    problem: str | None = None


_SPELLING: Final = Spelling(camel_case, Absent.LEFT_OUT)
PAST: Final = Coder[Past](_SPELLING, Past, "fleet of the past")
CHANGES: Final = Coder[ReleaseChanges](_SPELLING, ReleaseChanges, "changes of a release")
BACKTEST: Final = Coder[BackTestReport](_SPELLING, BackTestReport, "back-test")
CHAIN: Final = Coder[LogChain](_SPELLING, LogChain, "chain of the log")
