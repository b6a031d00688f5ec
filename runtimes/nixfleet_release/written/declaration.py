"""What a fleet declaration says, before scopes and selectors are worked out. Frozen data.

However it was written down, a declaration comes to these types; `validate` judges them, and `resolve`
turns what was found good into a `FleetResolved`. Types of the resolved fleet serve here too wherever
both say the same.
Source: docs/spec/declarations.md, Sources.
"""

from datetime import datetime
from typing import Final, Self, TypeAlias

from attrs import field, frozen

from nixfleet_proto.agent_event import OnHealthFailure, ProbeMode
from nixfleet_proto.codec import HealthCheckSet
from nixfleet_proto.fleet import Edge, FleetChannel, FleetHost
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.health_check import ControlOverride, EvidenceProbe
from nixfleet_state_machine.scopes.expression import Expression, Mention, mentions
from nixfleet_state_machine.scopes.merge import Scope

EVIDENCE_AGE_SECS_MAX: Final = EvidenceProbe("", "").max_age_secs  # unless something else is said

ScopedHealthChecks: TypeAlias = FrozenMap[Scope, HealthCheckSet]
"""The health checks that each scope declares, by probe name."""


@frozen
class FrameworkDeclaration:
    """A compliance framework that the hosts of a channel are held to, and where their evidence is."""

    evidence_path: str
    interval_seconds: int = 30
    max_age_secs: int = EVIDENCE_AGE_SECS_MAX


@frozen
class ComplianceDeclaration:
    """What one scope says of how a framework counts; `None`, an empty reason and no override say nothing."""

    mode: ProbeMode | None = None
    reason: str | None = None
    control_overrides: FrozenMap[str, ControlOverride] = field(
        factory=lambda: FrozenMap[str, ControlOverride]()
    )


@frozen
class Pin:
    """Hosts stay with what was built from `commit`, until `expires_at` or until the pin is gone."""

    commit: str
    reason: str | None = None
    expires_at: datetime | None = None

    def is_expired(self, now: datetime | None) -> bool:
        """Return whether the pin counts no more at `now`; with `None`, no pin is expired."""
        return now is not None and self.expires_at is not None and self.expires_at <= now


ScopedCompliance: TypeAlias = FrozenMap[Scope, FrozenMap[str, ComplianceDeclaration]]
"""What each scope says of how frameworks count, by framework."""

ScopedPins: TypeAlias = FrozenMap[Scope, FrozenMap[str, Pin]]
"""The pins of scopes: each has one, and it has no name."""


@frozen
class SelectorDeclaration:
    """Which hosts are meant, and where each name is given: in which path below the selector's own."""

    expression: Expression
    mentioned: tuple[tuple[Mention, str], ...] = field(eq=False)

    @classmethod
    def of(cls, expression: Expression) -> Self:
        """Return the declaration of a selector that is written as a whole, in one place."""
        return cls(expression, tuple((it, "") for it in mentions(expression)))


@frozen
class WaveDeclaration:
    """One wave of a policy. `selector` is `None` for the rest: the hosts in no other wave."""

    selector: SelectorDeclaration | None
    soak_minutes: int = 0

    @property
    def is_rest(self) -> bool:
        return self.selector is None


@frozen
class PolicyDeclaration:
    """How rollouts of the channels that use it go. No waves: all hosts at once."""

    on_health_failure: OnHealthFailure = OnHealthFailure.HALT
    waves: tuple[WaveDeclaration, ...] = ()


@frozen
class BudgetDeclaration:
    """How many of the selected hosts may be in flight at once, as a number or a share of them."""

    selector: SelectorDeclaration
    max_in_flight: int | None = None
    max_in_flight_pct: int | None = None


@frozen
class FleetDeclaration:
    """A whole fleet as it was declared. Hosts, channels and policies are by name.

    name: what people call the fleet. hosts: without closures; those are known when it is released.
    frameworks: by channel, those that its hosts are held to.
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

    def hosts_of(self, channel: str) -> FrozenMap[str, FleetHost]:
        """Return the hosts of one channel."""
        return FrozenMap({n: host for n, host in self.hosts.items() if host.channel == channel})

    def frameworks_of(self, channel: str) -> FrozenMap[str, FrameworkDeclaration]:
        """Return the frameworks that the hosts of one channel are held to."""
        return self.frameworks.get(channel, FrozenMap[str, FrameworkDeclaration]())
