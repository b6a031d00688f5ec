"""A resolved fleet: the result of evaluating every scope and selector of a declaration.

The shape of `fleet.resolved.json` as the public Nix evaluation writes it. Frozen data without
behaviour. Policies and selectors are of `policy`, and belong to a fleet's names as well.
Source: docs/spec/declarations.md, Resolved fleet.
"""

from collections.abc import Iterator
from datetime import datetime

from attrs import frozen

from nixfleet_proto.checked import WordEnum, at_least, checked
from nixfleet_proto.errors import ValueProblem
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.policy import PolicyWave as PolicyWave
from nixfleet_proto.policy import RolloutPolicy as RolloutPolicy
from nixfleet_proto.policy import Selector as Selector
from nixfleet_proto.policy import Tolerance, tolerance_problems
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.steering.guards import WaveGuards

SCHEMA_VERSION = 1


@frozen
@checked
class Meta:
    """Who made an artefact and when; `signed_at` is what freshness is judged by.

    author: the operator who wrote the release, and so does not approve it; `None`: not said.
    """

    signed_at: datetime | None
    ci_commit: str | None = None
    schema_version: int = SCHEMA_VERSION
    signature_algorithm: str = "ed25519"
    author: str | None = None


@frozen
@checked
class FleetHost:
    """One machine: its channel, its tags, and the closure it should run (`None`: nothing built yet).

    enabled: whether it takes part in rollouts. A disabled host has no closure either, so that receivers that do not
    know the field leave it out as well.
    """

    channel: str
    tags: tuple[str, ...] = ()
    platform: str = "x86_64-linux"
    closure_hash: str | None = None
    pubkey: str | None = None
    enabled: bool = True


class OnDrift(WordEnum):
    """What follows when a Converged host runs another closure than its target."""

    REPORT = "report"
    RESTORE = "restore"


@frozen
@checked
class FleetChannel:
    """A channel's policy by name, and how fresh its signed artefacts must be. enabled: whether anything is released."""

    rollout_policy: str
    reconcile_interval_minutes: int = 5
    freshness_window: int = 180  # minutes
    signing_interval_minutes: int = 60
    on_drift: OnDrift = OnDrift.REPORT
    enabled: bool = True


@frozen
@checked
class Wave:
    """A wave as it was resolved.

    Its hosts by name, how long each soaks, the earliest time it begins, if any, how many may fail, and what must have
    happened before it begins.
    """

    hosts: tuple[str, ...]
    soak_minutes: int = 0
    not_before: datetime | None = None
    max_failures: int | None = None
    max_failure_pct: int | None = None
    guards: WaveGuards = WaveGuards()

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("soak_minutes", self.soak_minutes, 0)
        yield from tolerance_problems(self.max_failures, self.max_failure_pct)

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance that the wave declares itself."""
        return Tolerance(self.max_failures, self.max_failure_pct)


@frozen
@checked
class Edge:
    """`gated` waits for `gates`: two hosts of one channel, or two channels."""

    gates: str
    gated: str
    reason: str | None = None


@frozen
@checked
class Ramp:
    """How the slots of a budget grow in each rollout: first `start`, then `factor` times as many, and so on.

    They grow each time as many hosts have converged as there were slots, up to the limit of the budget.
    Source: docs/spec/pace.md, Ramp.
    """

    start: int
    factor: int = 2

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from at_least("start", self.start, 1)
        yield from at_least("factor", self.factor, 1)

    def __str__(self) -> str:
        return f"from {self.start} by a factor of {self.factor}"


def pace_problems(max_per_minute: int | None) -> Iterator[ValueProblem]:
    """Yield the numbers of beginnings that a budget cannot have, for every record that has one."""
    if max_per_minute is not None:
        yield from at_least("max_per_minute", max_per_minute, 1)


@frozen
@checked
class DisruptionBudget:
    """How many of the selected hosts may be in flight at once, as a number or a share of them, and how fast they begin.

    ramp: how the slots grow to that number in each rollout; `None`: all are there at once. max_per_minute: how many
    hosts are dispatched in any 60 seconds; `None`: any number.
    """

    selector: Selector
    max_in_flight: int | None = None
    max_in_flight_pct: int | None = None
    ramp: Ramp | None = None
    max_per_minute: int | None = None

    def _contradictions(self) -> Iterator[ValueProblem]:
        yield from pace_problems(self.max_per_minute)


@frozen
@checked
class FleetResolved:
    """The whole fleet as CI signed it. Mappings are by name: hosts, channels, policies; waves by channel."""

    hosts: FrozenMap[str, FleetHost]
    channels: FrozenMap[str, FleetChannel]
    rollout_policies: FrozenMap[str, RolloutPolicy]
    waves: FrozenMap[str, tuple[Wave, ...]]
    meta: Meta
    edges: tuple[Edge, ...] = ()
    channel_edges: tuple[Edge, ...] = ()
    disruption_budgets: tuple[DisruptionBudget, ...] = ()
    schema_version: int = SCHEMA_VERSION
    calendar: tuple[CalendarEntry, ...] = ()
