"""A host that is locked takes no slot of the minute of a budget: the others begin."""

from contextlib import closing

import pytest
from attrs import evolve

from nixfleet_proto.agent_event import Postponed
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost
from tests.locks.test_control_plane_locks import LAPTOP, ONE_WAVE, R1, postpone

ONE_A_MINUTE = evolve(ONE_WAVE, max_in_flight=None, max_per_minute=1)


def test_a_postponement_gives_its_slot_of_the_minute_back() -> None:
    """The next host is dispatched at once, and it alone."""
    with scratch_directory() as d, closing(ScriptedControlPlane(d, ONE_A_MINUTE)) as fleet:
        fleet.publish("r1")
        assert fleet.queued() == [(LAPTOP, R1)]
        postpone(ScriptedHost(fleet, R1, LAPTOP))
        assert fleet.queued() == [("web-02", R1)]
        assert not fleet.check_store().differences
        before = likeness(fleet.state)
        fleet.restart_control_plane()
        assert likeness(fleet.state) == before


def test_a_postponement_after_its_minute_gives_nothing_back() -> None:
    """The slot is back, and another host has it."""
    with scratch_directory() as d, closing(ScriptedControlPlane(d, ONE_A_MINUTE)) as fleet:
        fleet.publish("r1")
        host = ScriptedHost(fleet, R1, LAPTOP)
        fleet.wait(minutes=2)
        fleet.tick()
        assert len(fleet.queued()) == 2
        postpone(host)
        assert fleet.queued() == [("web-02", R1)]
        assert not fleet.check_store().differences


def test_a_late_postponement_that_holds_nothing_gives_no_slot_back() -> None:
    """Its lock is over, and the dispatch stays in the queue."""
    with scratch_directory() as d, closing(ScriptedControlPlane(d, ONE_A_MINUTE)) as fleet:
        fleet.publish("r1")
        ScriptedHost(fleet, R1, LAPTOP).tell(lambda seq: Postponed(fleet.now, "", fleet.now, seq))
        assert fleet.queued() == [(LAPTOP, R1)]


@pytest.mark.parametrize("minutes", [1, 15])
def test_many_locked_hosts_starve_no_other_one(minutes: int) -> None:
    """More of them than minutes until they are asked again."""
    names = tuple(f"laptop-{place:02}" for place in range(16))
    layout = evolve(ONE_A_MINUTE, waves=((*names, "server"),))
    with scratch_directory() as d, closing(ScriptedControlPlane(d, layout)) as fleet:
        fleet.publish("r1")
        hosts = {name: ScriptedHost(fleet, R1, name) for name in names}
        asked = list[str]()
        while "server" not in asked and len(asked) < 2 * len(names):
            ((hostname, _rollout),) = fleet.queued()
            asked.append(hostname)
            if hostname in hosts:
                postpone(hosts[hostname], minutes=minutes)
            fleet.wait(seconds=2)
            fleet.tick()
        assert asked == [*names, "server"]
