"""What a channel of an in-memory fleet looks like: its hosts, its waves, its terms. Data, checked when it is made."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

from attrs import field, fields, frozen

from nixfleet_proto.agent_event import OnHealthFailure
from nixfleet_proto.checked import require_arguments
from nixfleet_proto.fleet import Ramp
from nixfleet_proto.ids import is_channel_name
from nixfleet_proto.policy import RolloutPolicy
from nixfleet_simulation.scenario.scenario import ChannelLayout, PolicyLayout
from nixfleet_testing.fleet_in_memory.errors import InvalidFleet, UnknownName, WaveSizesDiffer


def _items(value: object) -> object:
    """Return a collection as a tuple. Anything else stays as it is, for the check to name."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(cast("Iterable[object]", value))
    return value


def _named(hosts: int | Sequence[str]) -> int | tuple[str, ...]:
    return cast("int | tuple[str, ...]", _items(hosts))


def _numbers(numbers: Iterable[int]) -> tuple[int, ...]:
    return cast("tuple[int, ...]", _items(numbers))


def _pairs(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    items = _items(pairs)
    if isinstance(items, tuple):
        items = tuple(map(_items, cast("tuple[object, ...]", items)))
    return cast("tuple[tuple[str, str], ...]", items)


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return cast("tuple[str, ...]", _items(names))


def _policy(policy: OnHealthFailure | str) -> OnHealthFailure:
    return OnHealthFailure(policy) if policy in tuple(OnHealthFailure) else cast("Any", policy)


@frozen
class Channel:
    """One channel.

    hosts: their names, or how many there are; then they are called `prefix-01`, `prefix-02`, …
    waves: the number of hosts in each wave, in order; default: one wave. soak_minutes: of every wave.
    budget: how many hosts may be in flight at once; `None`: no limit. ramp: how its slots grow as hosts converge.
    max_per_minute: how many hosts are dispatched in any 60 seconds.
    edges: (first, later): `later` waits until `first` has converged. after: the channels that go first.
    prefix: default: the channel's name. policy: but for `on_health_failure`.

    Raises: InvalidValue, InvalidFleet, WaveSizesDiffer, UnknownName.
    """

    name: str
    hosts: int | tuple[str, ...] = field(converter=_named)
    waves: tuple[int, ...] = field(default=(), converter=_numbers)
    soak_minutes: int = field(default=3, kw_only=True)
    budget: int | None = field(default=None, kw_only=True)
    edges: tuple[tuple[str, str], ...] = field(default=(), kw_only=True, converter=_pairs)
    on_health_failure: OnHealthFailure = field(
        default=OnHealthFailure.ROLLBACK_AND_HALT, kw_only=True, converter=_policy
    )
    after: tuple[str, ...] = field(default=(), kw_only=True, converter=_names)
    prefix: str = field(default="", kw_only=True)
    policy: RolloutPolicy = field(default=RolloutPolicy(), kw_only=True)
    ramp: Ramp | None = field(default=None, kw_only=True)
    max_per_minute: int | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        require_arguments(
            "Channel",
            **{each.name: (getattr(self, each.name), each.type) for each in fields(Channel)},
        )
        if not is_channel_name(self.name):
            raise InvalidFleet("channel name", "a text that matches [a-z0-9_-]+", repr(self.name))
        self._check_numbers()
        names = self.host_names
        if len(set(names)) < len(names):
            raise InvalidFleet(f"hosts of channel {self.name}", "every name once", f"{list(names)}")
        if min(self.waves, default=1) < 1:
            raise InvalidFleet(
                f"waves of channel {self.name}", "sizes of at least 1", f"{list(self.waves)}"
            )
        if self.waves and sum(self.waves) != len(names):
            raise WaveSizesDiffer(self.name, self.waves, len(names))
        for host in (host for edge in self.edges for host in edge):
            if host not in names:
                raise UnknownName("host", host, names)

    def _check_numbers(self) -> None:
        hosts = self.hosts if isinstance(self.hosts, int) else len(self.hosts)
        counts = (
            ("hosts", hosts),
            ("budget", self.budget),
            ("max_per_minute", self.max_per_minute),
        )
        for what, number in counts:
            if number is not None and number < 1:
                raise InvalidFleet(f"{what} of channel {self.name}", "at least 1", str(number))
        if self.soak_minutes < 0:
            found = str(self.soak_minutes)
            raise InvalidFleet(f"soak_minutes of channel {self.name}", "at least 0", found)

    @property
    def host_names(self) -> tuple[str, ...]:
        """The names of all hosts, in the order of the waves."""
        if isinstance(self.hosts, tuple):
            return self.hosts
        return tuple(f"{self.prefix or self.name}-{n:02}" for n in range(1, self.hosts + 1))

    def layout(self) -> ChannelLayout:
        """Return the channel as the simulated fleet takes it."""
        names = self.host_names
        sizes = self.waves or (len(names),)
        ends = accumulate(sizes)
        return ChannelLayout(
            self.name,
            tuple(names[end - size : end] for size, end in zip(sizes, ends, strict=True)),
            self.soak_minutes,
            self.budget,
            self.edges,
            self.on_health_failure,
            self.after,
            PolicyLayout(self.policy.tolerance, (), self.policy.deadlines, self.policy.retry),
            ramp=None if self.ramp is None else (self.ramp.start, self.ramp.factor),
            per_minute=self.max_per_minute,
        )


def require_fleet(channels: Sequence[Channel], offline: Collection[str]) -> None:
    """Check what no channel can know by itself. Raises: InvalidValue, InvalidFleet, UnknownName."""
    require_arguments(
        "InMemoryFleet",
        channels=(channels, tuple[Channel, ...]),
        offline=(offline, Iterable[str]),
    )
    if not channels:
        raise InvalidFleet("channels", "at least one channel", "none")
    names = [channel.name for channel in channels]
    hosts = [host for channel in channels for host in channel.host_names]
    for what, each in (("channel names", names), ("hosts", hosts)):
        twice = sorted({name for name in each if each.count(name) > 1})
        if twice:
            raise InvalidFleet(what, "every name once in the fleet", f"{', '.join(twice)} twice")
    for channel in channels:
        require_known("channel", channel.after, names)
    require_known("host", offline, hosts)


def require_known(
    kind: str, names: Iterable[str], known: Collection[str] | Mapping[str, object]
) -> None:
    """Raises: UnknownName, for the first of `names`, sorted, that is not `known`. InvalidValue, for another type."""
    named = tuple(names)
    if len(named) == 1:
        require_arguments("InMemoryFleet", **{kind: (named[0], str)})
    require_arguments("InMemoryFleet", **{f"{kind}s": (named, tuple[str, ...])})
    for name in sorted(named):
        if name not in known:
            raise UnknownName(kind, name, known)
