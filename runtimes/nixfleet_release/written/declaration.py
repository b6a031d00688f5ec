"""A fleet declaration before scopes and selectors are resolved. Frozen data.

Every source of declarations produces these types; `check.validate` validates them, and `build.resolve` turns valid ones
into a `FleetResolved`. Types of the resolved fleet are reused where both have the same content.
Source: docs/spec/declarations.md, Sources.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final, Self, TypeAlias

from attrs import field, frozen

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.fleet import Edge, FleetChannel, FleetHost, Ramp
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import ControlOverride, EvidenceProbe
from nixfleet_proto.policy import Deadlines, Recall, Retry, Selector
from nixfleet_proto.steering.calendar import (
    CalendarEntry,
    CalendarKind,
    Nth,
    Repeat,
    Weekday,
)
from nixfleet_proto.steering.guards import Approvals, Check, WaveGuards
from nixfleet_state_machine.scopes.expression import Expression, Mention, mentions
from nixfleet_state_machine.scopes.merge import Scope
from nixfleet_state_machine.scopes.selector import enabled_hosts

EVIDENCE_AGE_SECS_MAX: Final = EvidenceProbe("", "").max_age_secs  # the default

ScopedHealthChecks: TypeAlias = FrozenMap[Scope, HealthCheckSet]
"""The health checks that each scope declares, by probe name."""


@frozen
class FrameworkDeclaration:
    """A compliance framework required of the hosts of a channel, and the path of their evidence."""

    evidence_path: str
    interval_seconds: int = 30
    max_age_secs: int = EVIDENCE_AGE_SECS_MAX


@frozen
class ComplianceDeclaration:
    """A scope's settings of a framework; `None`, an empty reason and an empty mapping set nothing."""

    mode: ProbeMode | None = None
    reason: str | None = None
    control_overrides: FrozenMap[str, ControlOverride] = field(
        factory=lambda: FrozenMap[str, ControlOverride]()
    )


@frozen
class Pin:
    """Hosts keep the closures built from `commit`, until `expires_at` or until the pin is removed."""

    commit: str
    reason: str | None = None
    expires_at: datetime | None = None

    def is_expired(self, now: datetime | None) -> bool:
        """Return whether the pin has expired at `now`; with `None`, no pin has."""
        return now is not None and self.expires_at is not None and self.expires_at <= now


ScopedCompliance: TypeAlias = FrozenMap[Scope, FrozenMap[str, ComplianceDeclaration]]
"""The settings of frameworks in each scope, by framework."""

ScopedPins: TypeAlias = FrozenMap[Scope, FrozenMap[str, Pin]]
"""The pins by scope. A scope has at most one, under the empty name."""


@frozen
class SelectorDeclaration:
    """A selector. mentioned: the names in it, each with its path relative to the selector."""

    expression: Expression
    mentioned: tuple[tuple[Mention, str], ...] = field(eq=False)

    @classmethod
    def of(cls, expression: Expression) -> Self:
        """Return the declaration of a selector that is written in one place."""
        return cls(expression, tuple((mention, "") for mention in mentions(expression)))


class WaveOrder(StrEnum):
    """The order in which a wave with a limit takes hosts."""

    ROTATE = "rotate"
    """By a hash of the channel's ref and the host: other hosts come first for another ref."""
    NAME = "name"


@frozen
class WaveLimit:
    """How many hosts a wave takes: a number, or with `is_pct` a percentage of those that its selector selects."""

    amount: int
    is_pct: bool = False

    def of(self, selected: int) -> int:
        """Return the limit for that many selected hosts: a percentage is rounded down, but at least 1."""
        return max(1, selected * self.amount // 100) if self.is_pct else self.amount

    def __str__(self) -> str:
        return f"{self.amount}%" if self.is_pct else str(self.amount)


@frozen
class ApprovalsDeclaration:
    """How many operators must approve, of those named."""

    count: int
    names: tuple[str, ...]


@frozen
class CheckDeclaration:
    """A question to a judge, and the answers that let a wave begin. passes: `None`: not given, which is refused."""

    name: str
    judge: str
    query: str
    comparison: str
    passes: int | None
    failures: int = 0
    inconclusive: int | None = None
    interval_seconds: int = 60


@frozen
class GuardsDeclaration:
    """The guards of a wave as declared: not judged yet, so that each problem can be named by its place."""

    bake_minutes: int = 0
    approvals: ApprovalsDeclaration | None = None
    checks: tuple[CheckDeclaration, ...] = ()
    waivable: tuple[str, ...] = ()

    def resolved(self) -> WaveGuards:
        """Return them as they are released. Raises: InvalidValue, for guards that the rules refuse."""
        approvals = self.approvals
        return WaveGuards(
            self.bake_minutes,
            None if approvals is None else Approvals(approvals.count, approvals.names),
            tuple(
                Check(
                    check.name,
                    check.judge,
                    check.query,
                    check.comparison,
                    1 if check.passes is None else check.passes,
                    check.failures,
                    check.inconclusive,
                    check.interval_seconds,
                )
                for check in self.checks
            ),
            self.waivable,
        )


@frozen
class WaveDeclaration:
    """One wave of a policy.

    selector: `None` for the rest, the hosts in no other wave. not_before: its first time. limit: `None` for all hosts.
    order: which come first. max_failures, max_failure_pct: how many may fail; if neither is given, those of the policy.
    guards: what must have happened before it begins.
    """

    selector: SelectorDeclaration | None
    soak_minutes: int = 0
    not_before: datetime | None = None
    limit: WaveLimit | None = None
    order: WaveOrder = WaveOrder.ROTATE
    max_failures: int | None = None
    max_failure_pct: int | None = None
    guards: GuardsDeclaration = GuardsDeclaration()

    @property
    def is_rest(self) -> bool:
        return self.selector is None


_REST: Final = WaveDeclaration(None)


@frozen
class PolicyDeclaration:
    """A policy for the rollouts of channels.

    waves: as declared; empty for one wave with all hosts. max_failures, max_failure_pct: of every wave that gives none.
    """

    on_health_failure: OnHealthFailure = OnHealthFailure.HALT
    waves: tuple[WaveDeclaration, ...] = ()
    max_failures: int | None = None
    max_failure_pct: int | None = None
    deadlines: Deadlines = Deadlines()
    retry: Retry = Retry()
    recall: Recall = Recall.NEVER

    @property
    def all_waves(self) -> tuple[WaveDeclaration, ...]:
        """The declared waves, and last the rest where it is implied: without waves, and after one with a limit."""
        if not self.waves:
            return (_REST,)
        is_implied = self.waves[-1].limit is not None and not any(
            wave.is_rest for wave in self.waves
        )
        return (*self.waves, _REST) if is_implied else self.waves

    @property
    def has_limits(self) -> bool:
        """Whether a wave has a limit, so that waves take turns at the hosts that several of them select."""
        return any(wave.limit is not None for wave in self.waves)

    @property
    def rotates(self) -> bool:
        """Whether the hosts of its waves depend on the ref that is released."""
        return any(wave.limit is not None and wave.order is WaveOrder.ROTATE for wave in self.waves)


@frozen
class BudgetDeclaration:
    """How many of the selected hosts may be in flight at once, as a number or a percentage, and how fast they begin."""

    selector: SelectorDeclaration
    max_in_flight: int | None = None
    max_in_flight_pct: int | None = None
    ramp: Ramp | None = None
    max_per_minute: int | None = None


@frozen
class CalendarDeclaration:
    """A window or a freeze, with the fields of a `CalendarEntry`.

    selector: `None` for every host. Values are as written: the rules say what is wrong with them.
    """

    name: str
    kind: CalendarKind
    zone: str
    selector: SelectorDeclaration | None = None
    reason: str = ""
    repeat: Repeat | None = None
    start: str | None = None
    minutes: int | None = None
    days: tuple[Weekday, ...] = ()
    month_day: int | None = None
    nth: Nth | None = None
    until: str | None = None
    begins: str | None = None
    ends: str | None = None
    minutes_needed: int | None = None

    def entry(self, selector: Selector) -> CalendarEntry:
        """Return the entry of the resolved fleet. Raises: InvalidValue, with every field that is wrong."""
        return CalendarEntry(
            name=self.name,
            kind=self.kind,
            selector=selector,
            zone=self.zone,
            reason=self.reason,
            repeat=self.repeat,
            start=self.start,
            minutes=self.minutes,
            days=self.days,
            month_day=self.month_day,
            nth=self.nth,
            until=self.until,
            begins=self.begins,
            ends=self.ends,
            minutes_needed=self.minutes_needed,
        )


@frozen
class FleetDeclaration:
    """A complete fleet declaration. Hosts, channels and policies are by name.

    name: the fleet's name for people. hosts: without closures, which are known only when a release is built.
    frameworks: those required of the hosts of each channel, by channel.
    """

    hosts: FrozenMap[str, FleetHost]
    channels: FrozenMap[str, FleetChannel]
    policies: FrozenMap[str, PolicyDeclaration]
    name: str | None = None
    health_checks: ScopedHealthChecks = field(factory=lambda: ScopedHealthChecks())
    frameworks: FrozenMap[str, FrozenMap[str, FrameworkDeclaration]] = field(
        factory=lambda: FrozenMap[str, FrozenMap[str, FrameworkDeclaration]]()
    )
    compliance: ScopedCompliance = field(factory=lambda: ScopedCompliance())
    pins: ScopedPins = field(factory=lambda: ScopedPins())
    budgets: tuple[BudgetDeclaration, ...] = ()
    edges: tuple[Edge, ...] = ()
    channel_edges: tuple[Edge, ...] = ()
    calendar: tuple[CalendarDeclaration, ...] = ()

    def hosts_of(self, channel: str) -> FrozenMap[str, FleetHost]:
        """Return the hosts of one channel."""
        return FrozenMap(
            {name: host for name, host in self.hosts.items() if host.channel == channel}
        )

    def is_disabled(self, hostname: str) -> bool:
        """Return whether a host is declared and takes part in no rollout: it is disabled, or its channel is."""
        return hostname in self.hosts and not enabled_hosts(
            {hostname: self.hosts[hostname]}, self.channels
        )

    def enabled_hosts_of(self, channel: str) -> dict[str, FleetHost]:
        """Return the hosts of one channel that take part in its rollouts; none if it is disabled."""
        return enabled_hosts(self.hosts_of(channel), self.channels)

    def frameworks_of(self, channel: str) -> FrozenMap[str, FrameworkDeclaration]:
        """Return the frameworks required of the hosts of one channel."""
        return self.frameworks.get(channel, FrozenMap[str, FrameworkDeclaration]())
