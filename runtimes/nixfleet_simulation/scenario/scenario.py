"""A scenario: a fleet, its settings, and its acts. Data; it determines a run.

Running the same scenario gives the same trace. A failing one is made smaller by removing acts.
"""

from collections.abc import Set
from datetime import UTC, datetime

from attrs import evolve, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.policy import Deadlines, Recall, Retry, Tolerance
from nixfleet_proto.steering.calendar import CalendarEntry
from nixfleet_proto.steering.guards import WaveGuards
from nixfleet_simulation.scenario.acts import Act
from nixfleet_simulation.scenario.randomness import Seed

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of a correct clock when a simulation begins, if its scenario does not say otherwise."""
FRESHNESS_WINDOW_MINUTES = 180
"""How old a manifest may be, for both sides."""


@frozen
class PolicyLayout:
    """A channel's policy for hosts that fail or do not come; the default declares nothing.

    tolerance: of every wave that has none itself. of_waves: the tolerances that waves declare themselves, one per wave.
    """

    tolerance: Tolerance = Tolerance()
    of_waves: tuple[Tolerance, ...] = ()
    deadlines: Deadlines = Deadlines()
    retry: Retry = Retry()


@frozen
class ChannelLayout:
    """A channel: its waves and its terms.

    max_in_flight, ramp, per_minute: of its budget; all `None`: no budget. ramp: (first slots, factor).
    edges: (host that goes first, host that waits).
    after: the channels that it waits for. policy: but for `on_health_failure`. begins_after_seconds: of each wave, how
    long after its release it may begin; empty: all at once. guards: of each wave; empty: none has any.
    """

    name: str
    waves: tuple[tuple[str, ...], ...]
    soak_minutes: int = 3
    max_in_flight: int | None = None
    edges: tuple[tuple[str, str], ...] = ()
    on_health_failure: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT
    after: tuple[str, ...] = ()
    policy: PolicyLayout = PolicyLayout()
    recall: Recall = Recall.NEVER
    ramp: tuple[int, int] | None = None
    per_minute: int | None = None
    begins_after_seconds: tuple[int, ...] = ()
    guards: tuple[WaveGuards, ...] = ()

    @property
    def has_budget(self) -> bool:
        return (self.max_in_flight, self.ramp, self.per_minute) != (None, None, None)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for wave in self.waves for host in wave)

    def guards_of(self, wave: int) -> WaveGuards:
        """Return what must have happened before the wave begins."""
        return self.guards[wave] if self.guards else WaveGuards()

    def with_hosts(self, hosts: Set[str]) -> "ChannelLayout":
        """Return the channel with these of its hosts alone. Some are left in each wave."""
        return evolve(
            self,
            waves=tuple(tuple(host for host in wave if host in hosts) for wave in self.waves),
            edges=tuple(edge for edge in self.edges if hosts >= {*edge}),
        )


@frozen
class Cadence:
    """The intervals of all regular work, in seconds."""

    agent_tick: float = 15.0
    control_plane_tick: float = 15.0
    heartbeat: float = 120.0
    poll_wait: float = 60.0
    probe_interval: int = 30
    failure_threshold: float = 60.0
    watch_releases: float = 30.0
    sign_again: float = 3600.0


@frozen
class Scenario:
    """Everything that determines a run. busy_seconds: when the faults end; from then on the fleet must settle.

    enrolling: the hosts that enroll with a token; the fleet declares the keys of the others. real_signatures: whether
    requests are signed with ed25519, or with a keyed hash, which takes less time. watches_home: whether closures have a
    probe of kind `home`. calendar: of the fleet, as it is declared first. starts_at: the time of a correct clock then.
    control_planes: how many there are on the store, one or two.
    """

    seed: Seed
    channels: tuple[ChannelLayout, ...]
    acts: tuple[Act, ...]
    busy_seconds: float
    cadence: Cadence = Cadence()
    enrolling: tuple[str, ...] = ()
    real_signatures: bool = True
    watches_home: bool = False
    calendar: tuple[CalendarEntry, ...] = ()
    starts_at: datetime = START
    control_planes: int = 1

    def channel(self, name: str) -> ChannelLayout:
        """Return a channel by its name, as it was declared first."""
        return next(channel for channel in self.channels if channel.name == name)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(host for channel in self.channels for host in channel.hosts)
