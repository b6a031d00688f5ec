"""`Changes`: places to look at, added up."""

import pytest

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.changes import Changes

STABLE = RolloutId("stable@a1")
EDGE = RolloutId("edge@c3")


@pytest.mark.parametrize(
    "changes",
    [
        Changes(channels={"stable"}),
        Changes(rollouts={STABLE}),
        Changes(earlier_waves={STABLE}),
        Changes(budgets={"tags:web"}),
        Changes(hosts={STABLE: {"web-1"}}),
    ],
)
def test_a_single_place_is_something_to_look_at(changes: Changes) -> None:
    """Whatever changed, there is a reason to plan."""
    assert changes.is_anything
    assert not Changes().is_anything


def test_hosts_are_added_by_rollout() -> None:
    """Hosts of one name in two rollouts are two hosts."""
    changes = Changes()
    for rollout_id, host in ((STABLE, "web-1"), (STABLE, "web-2"), (EDGE, "web-1")):
        changes.add_host(rollout_id, host)

    assert changes == Changes(hosts={STABLE: {"web-1", "web-2"}, EDGE: {"web-1"}})


def test_all_of_another_is_added_and_nothing_lost() -> None:
    """Changes from before a batch that failed are there again, with those since."""
    changes = Changes({"stable"}, {STABLE}, {STABLE}, {"tags:web"}, {STABLE: {"web-1"}})
    taken = Changes({"edge"}, {EDGE}, {EDGE}, {"tags:db"}, {STABLE: {"web-2"}, EDGE: {"edge-1"}})
    changes.add_all(taken)

    assert changes == Changes(
        {"stable", "edge"},
        {STABLE, EDGE},
        {STABLE, EDGE},
        {"tags:web", "tags:db"},
        {STABLE: {"web-1", "web-2"}, EDGE: {"edge-1"}},
    )


def test_hosts_that_were_added_do_not_follow_what_they_came_from() -> None:
    """The sets are copied: what is added later to one is not in the other."""
    changes, other = Changes(), Changes(hosts={STABLE: {"web-1"}})
    changes.add_all(other)
    other.add_host(STABLE, "web-2")

    assert changes.hosts == {STABLE: {"web-1"}}
