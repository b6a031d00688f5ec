"""`Stirred`: places to look at, added up."""

import pytest

from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.index.changes import Stirred

STABLE = RolloutId("stable@a1")
EDGE = RolloutId("edge@c3")


@pytest.mark.parametrize(
    "stirred",
    [
        Stirred(channels={"stable"}),
        Stirred(rollouts={STABLE}),
        Stirred(earlier_waves={STABLE}),
        Stirred(budgets={"tags:web"}),
        Stirred(hosts={STABLE: {"web-1"}}),
    ],
)
def test_a_single_place_is_something_to_look_at(stirred: Stirred) -> None:
    """Whatever was stirred, there is a reason to plan."""
    assert stirred.is_anything
    assert not Stirred().is_anything


def test_hosts_are_added_by_rollout() -> None:
    """Hosts of one name in two rollouts are two hosts."""
    stirred = Stirred()
    for rollout_id, host in ((STABLE, "web-1"), (STABLE, "web-2"), (EDGE, "web-1")):
        stirred.add_host(rollout_id, host)

    assert stirred == Stirred(hosts={STABLE: {"web-1", "web-2"}, EDGE: {"web-1"}})


def test_all_of_another_is_added_and_nothing_lost() -> None:
    """What was stirred before a batch that failed is there again, with what was stirred since."""
    stirred = Stirred({"stable"}, {STABLE}, {STABLE}, {"tags:web"}, {STABLE: {"web-1"}})
    taken = Stirred({"edge"}, {EDGE}, {EDGE}, {"tags:db"}, {STABLE: {"web-2"}, EDGE: {"edge-1"}})
    stirred.add_all(taken)

    assert stirred == Stirred(
        {"stable", "edge"},
        {STABLE, EDGE},
        {STABLE, EDGE},
        {"tags:web", "tags:db"},
        {STABLE: {"web-1", "web-2"}, EDGE: {"edge-1"}},
    )


def test_hosts_that_were_added_do_not_follow_what_they_came_from() -> None:
    """The sets are copied: what is stirred later in one is not stirred in the other."""
    stirred, other = Stirred(), Stirred(hosts={STABLE: {"web-1"}})
    stirred.add_all(other)
    other.add_host(STABLE, "web-2")

    assert stirred.hosts == {STABLE: {"web-1"}}
