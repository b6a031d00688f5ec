"""A resolved fleet: what a declaration comes to once every scope and selector has been worked out.

The shape of `fleet.resolved.json` as the public Nix evaluation writes it. Frozen data, no behaviour but
what a field means by itself.
Source: design 4.
"""

from datetime import datetime

from attrs import field, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_proto.json_value import JsonValue

SCHEMA_VERSION = 1


@frozen
class Meta:
    """Who made an artefact and when; `signed_at` is what freshness is judged by."""

    signed_at: datetime | None
    ci_commit: str | None = None
    schema_version: int = SCHEMA_VERSION
    signature_algorithm: str = "ed25519"


@frozen
class Selector:
    """Which hosts are meant: those that satisfy every part that is given; none given, no host.

    `all` selects every host. `hosts` by name, `channel` by channel, `tags` those with all of the tags,
    `tags_any` those with at least one.
    """

    all: bool = False
    hosts: tuple[str, ...] = ()
    channel: str | None = None
    tags: tuple[str, ...] = ()
    tags_any: tuple[str, ...] = ()


@frozen
class FleetHost:
    """One machine: its channel, its tags, and the closure it should run (`None`: nothing built yet)."""

    channel: str
    tags: tuple[str, ...] = ()
    platform: str = "x86_64-linux"
    closure_hash: str | None = None
    pubkey: str | None = None


@frozen
class FleetChannel:
    """A channel's policy by name, and how fresh its signed artefacts must be."""

    rollout_policy: str
    reconcile_interval_minutes: int = 5
    freshness_window: int = 180  # minutes
    signing_interval_minutes: int = 60


@frozen
class PolicyWave:
    """A wave as a policy declares it: by selector, not by name."""

    selector: Selector
    soak_minutes: int = 0


@frozen
class RolloutPolicy:
    """How a channel's rollouts go; `on_health_failure` is what the host machine asks it."""

    on_health_failure: OnHealthFailure = OnHealthFailure.HALT
    strategy: str = "waves"
    waves: tuple[PolicyWave, ...] = ()
    health_gate: FrozenMap[str, JsonValue] = field(factory=lambda: FrozenMap[str, JsonValue]())


@frozen
class Wave:
    """A wave as it was resolved: its hosts by name, and how long each soaks."""

    hosts: tuple[str, ...]
    soak_minutes: int = 0


@frozen
class Edge:
    """`gated` waits for `gates`: two hosts of one channel, or two channels."""

    gates: str
    gated: str
    reason: str | None = None


@frozen
class DisruptionBudget:
    """How many of the selected hosts may be in flight at once, as a number or a share of them."""

    selector: Selector
    max_in_flight: int | None = None
    max_in_flight_pct: int | None = None


@frozen
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
