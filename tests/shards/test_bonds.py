"""What ties channels together: budgets with equal selectors, over the hosts that take part in rollouts."""

import pytest

from nixfleet_proto.errors import InvalidValue
from nixfleet_proto.fleet import DisruptionBudget, FleetChannel, FleetHost, Selector
from nixfleet_proto.frozen_map import FrozenMap
from nixfleet_state_machine.shards.bonds import Bond, ShardsJoined, bonds_of, components, joined
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap
from tests.shards.two_shards import fleet_of

ALL = DisruptionBudget(Selector(all=True), 1)


def test_a_budget_of_hosts_of_two_channels_ties_them() -> None:
    assert bonds_of(fleet_of("r1", (ALL,))) == (Bond("all", ("db", "web")),)


def test_a_budget_of_one_channel_ties_nothing() -> None:
    assert bonds_of(fleet_of("r1", (DisruptionBudget(Selector(channel="web"), 1),))) == ()


def test_budgets_of_one_selector_tie_as_one() -> None:
    spelt = (Selector(hosts=("web-1", "db-1")), Selector(hosts=("db-1", "web-1")))
    fleet = fleet_of("r1", tuple(DisruptionBudget(selector, 1) for selector in spelt))
    assert bonds_of(fleet) == (Bond("hosts:db-1,web-1", ("db", "web")),)


def test_a_disabled_host_ties_nothing() -> None:
    fleet = fleet_of("r1", (ALL,))
    hosts = fleet.hosts.with_item("db-1", FleetHost("db", enabled=False))
    assert (
        bonds_of(
            type(fleet)(
                hosts,
                fleet.channels,
                fleet.rollout_policies,
                fleet.waves,
                fleet.meta,
                disruption_budgets=(ALL,),
            )
        )
        == ()
    )


def test_a_disabled_channel_ties_nothing() -> None:
    fleet = fleet_of("r1", (ALL,))
    channels = FrozenMap({**fleet.channels, "db": FleetChannel("at-once", enabled=False)})
    assert (
        bonds_of(
            type(fleet)(
                fleet.hosts,
                channels,
                fleet.rollout_policies,
                fleet.waves,
                fleet.meta,
                disruption_budgets=(ALL,),
            )
        )
        == ()
    )


def test_channels_are_in_one_group_through_others() -> None:
    bonds = (Bond("one", ("a", "b")), Bond("two", ("b", "c")))
    assert components(("a", "b", "c", "d"), bonds) == (("a", "b", "c"), ("d",))


def test_a_budget_over_two_shards_is_told_with_its_channels() -> None:
    shards = ShardMap.of({"data": ("db",)})
    (found,) = joined(shards, (Bond("all", ("db", "web", "www")),))
    assert found == ShardsJoined("all", (("data", ("db",)), (MAIN, ("web", "www"))))
    assert "db in shard 'data'; web, www in shard 'main'" in str(found)


def test_a_budget_within_one_shard_joins_nothing() -> None:
    shards = ShardMap.of({"data": ("db", "web")})
    assert list(joined(shards, (Bond("all", ("db", "web")),))) == []


def test_a_channel_that_no_shard_names_is_in_main() -> None:
    assert ShardMap.of({"data": ("db",)}).shard_of("web") == MAIN


def test_a_channel_in_two_shards_is_refused_with_both() -> None:
    with pytest.raises(InvalidValue, match="expected one shard, found shards 'a' and 'b'"):
        ShardMap.of({"a": ("db",), "b": ("db",)})
