"""Strategies of holds: of every scope and source, with and without an end."""

from collections.abc import Mapping

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nixfleet_state_machine.planner.holds.hold import (
    Hold,
    HoldBegan,
    HoldEnded,
    HoldKind,
    HoldSource,
)
from nixfleet_state_machine.planner.holds.scope import (
    ChannelScope,
    FleetScope,
    GroupScope,
    HoldScope,
    HostScope,
    RolloutScope,
    WaveScope,
)
from nixfleet_testing.strategies.names import channels, hostnames, rollout_ids, times

_SCOPES: Mapping[type[object], SearchStrategy[HoldScope]] = {
    FleetScope: st.builds(FleetScope),
    ChannelScope: st.builds(ChannelScope, channels()),
    RolloutScope: st.builds(RolloutScope, rollout_ids()),
    WaveScope: st.builds(WaveScope, rollout_ids(), st.integers(0, 2)),
    HostScope: st.builds(HostScope, hostnames()),
    GroupScope: st.builds(GroupScope, channels(), st.sampled_from(("nightly", "holidays"))),
}


def hold_scopes() -> SearchStrategy[HoldScope]:
    """Scopes of every kind."""
    return st.one_of(*_SCOPES.values())


def hold_sources() -> SearchStrategy[HoldSource]:
    """Sources of every kind, with and without a name."""
    return st.builds(HoldSource, st.sampled_from(HoldKind), st.sampled_from(("", "ada", "bo")))


def holds() -> SearchStrategy[Hold]:
    """Holds whose ends may have passed."""
    some_time = st.none() | times()
    reasons = st.sampled_from(("", "moving racks"))
    return st.builds(Hold, hold_scopes(), hold_sources(), reasons, some_time, some_time)


HOLDS: Mapping[type[object], SearchStrategy[object]] = {
    **_SCOPES,
    HoldSource: hold_sources(),
    Hold: holds(),
    HoldBegan: holds().map(HoldBegan),
    HoldEnded: st.builds(HoldEnded, hold_scopes(), hold_sources()),
}
