"""Draws the acts of attackers, proxies and careless copiers, and those that change who a host is."""

from nixfleet_simulation.scenario.acts import (
    Act,
    AlterRequests,
    AnswerBadly,
    BadAnswer,
    BorrowName,
    HalfExchanged,
    NewKey,
    NewToken,
    PutOlderBack,
    ReplayRequests,
    StealToken,
)
from nixfleet_simulation.scenario.randomness import Random
from nixfleet_simulation.scenario.scenario import ChannelLayout

_LATE_SECONDS = (0.2, 3.0, 20.0, 45.0, 59.0, 61.0, 90.0, 400.0)
"""When a copy is sent: at once, within the minute in which a signature is good, and after it."""


def of_wire(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return an act of an attacker on the way of requests."""
    hosts = _hosts(channels)
    host, lasts = rng.choice(hosts), rng.uniform(10, 600)
    what = rng.choice(("replay", "replay", "replay", "borrow", "alter"))
    if what == "borrow":
        return BorrowName(at, host, rng.choice(hosts), lasts)
    if what == "alter":
        return AlterRequests(at, host, lasts)
    return ReplayRequests(at, "" if rng.random() < 0.3 else host, lasts, rng.choice(_LATE_SECONDS))


def of_proxy(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return a stretch of bad answers."""
    host = "" if rng.random() < 0.3 else rng.choice(_hosts(channels))
    share = rng.choice((0.2, 0.5, 1.0))
    return AnswerBadly(at, host, rng.uniform(10, 600), share, rng.choice(tuple(BadAnswer)))


def of_identity(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return a change of who a host is, or an attempt to be it."""
    hosts = _hosts(channels)
    host = rng.choice(hosts)
    what = rng.choice(("key", "token", "token", "steal"))
    if what == "key":
        return NewKey(at, host, rng.uniform(30, 900))
    if what == "token":
        return NewToken(at, host, rng.choice((60.0, 600.0, 7200.0)))
    return StealToken(at, host, rng.choice(hosts))


def of_exchange(rng: Random, channels: tuple[ChannelLayout, ...], at: float) -> Act:
    """Return a careless change of the release directory."""
    if rng.random() < 0.5:
        return HalfExchanged(at, rng.uniform(30, 300))
    return PutOlderBack(at, rng.uniform(60, 1500), rng.randrange(1, 7))


def _hosts(channels: tuple[ChannelLayout, ...]) -> list[str]:
    return [host for channel in channels for host in channel.hosts]
