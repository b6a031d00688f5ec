"""What the answer to a heartbeat costs while a recall goes on: it does not grow with the fleet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_proto.ids import RolloutId
from nixfleet_proto.steering.warrant import Warrant
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_state_machine.planner.index.fleet_view import FleetView
from tests.control_plane.test_engine_warrants import GRANTED, R1, RECALL, recalled, relay, told
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.scratch import scratch_directory
from tests.engines.scripted_host import ScriptedHost

NEWEST = tuple(f"db-{number:03d}" for number in range(300))
LOOKUPS_MAX = 20


class CountedName(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.fixture
def scratch() -> Iterator[Path]:
    """An empty directory on which commits are quick."""
    with scratch_directory() as directory:
        yield directory


def recall_of_two_waves(scratch: Path, warrant: Warrant = RECALL) -> ScriptedControlPlane:
    """Two hosts took the release; of the newest wave, one did."""
    layout = evolve(GRANTED, waves=(("web-01", "web-02"), NEWEST))
    control_plane = ScriptedControlPlane(scratch, layout)
    control_plane.publish("r1")
    for host in ("web-01", "web-02", NEWEST[-1]):
        ScriptedHost(control_plane, R1, host).finish()
    assert control_plane.command(relay(warrant)).refusal is None
    return control_plane


def lookups(
    control_plane: ScriptedControlPlane, host: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, bool]:
    """How many records the answer to a heartbeat looks at, and whether the host was told."""
    looked_at: list[str] = []
    original = FleetView.host

    def counted(view: FleetView, rollout_id: RolloutId, hostname: str) -> HostRolloutState | None:
        looked_at.append(hostname)
        return original(view, rollout_id, hostname)

    with monkeypatch.context() as patch:
        patch.setattr(FleetView, "host", counted)
        was_told = told(control_plane, host) != ()
    return len(looked_at), was_told


@pytest.mark.parametrize("hosts", [(), ("web-01", *NEWEST)], ids=["all", "named"])
def test_a_wave_that_waits_looks_at_no_host_that_has_nothing_to_leave(
    hosts: tuple[str, ...], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 hosts of the newest wave one took the release: it alone is looked at."""
    control_plane = recall_of_two_waves(scratch, evolve(RECALL, hosts=hosts))
    told(control_plane, NEWEST[-1])
    told(control_plane, "web-02")
    count, was_told = lookups(control_plane, "web-01", monkeypatch)
    assert (count <= LOOKUPS_MAX, was_told) == (True, False)

    recalled(control_plane, NEWEST[-1])
    count, was_told = lookups(control_plane, "web-01", monkeypatch)
    assert (count <= LOOKUPS_MAX, was_told) == (True, True)


def test_a_name_is_found_in_a_long_order_without_a_walk() -> None:
    """Each host of each heartbeat asks."""
    warrant = evolve(RECALL, hosts=NEWEST)
    CountedName.compared = 0

    assert warrant.is_for(CountedName(NEWEST[-1]))
    assert not warrant.is_for(CountedName("web-09"))
    assert CountedName.compared < LOOKUPS_MAX


def test_hosts_that_are_back_are_not_walked_for_the_budgets(scratch: Path) -> None:
    """Only those that are still going hold a slot."""
    control_plane = recall_of_two_waves(scratch)
    told(control_plane, NEWEST[-1])
    assert (R1, NEWEST[-1]) in control_plane.state.going_back
    recalled(control_plane, NEWEST[-1])

    assert not control_plane.state.going_back


def test_the_hosts_that_are_left_are_those_that_a_walk_finds(scratch: Path) -> None:
    """After a recall, facts and a restart."""
    control_plane = recall_of_two_waves(scratch)
    _require_as_walked(control_plane)
    late = ScriptedHost(control_plane, R1, NEWEST[0])
    late.acknowledge()
    _require_as_walked(control_plane)
    recalled(control_plane, NEWEST[-1])
    _require_as_walked(control_plane)
    control_plane.restart_control_plane()
    _require_as_walked(control_plane)
    late.start()
    _require_as_walked(control_plane)

    assert [sorted(each) for each in control_plane.state.ways_back_of(R1)] == [
        ["web-01", "web-02"],
        [NEWEST[0]],
    ]


def _require_as_walked(control_plane: ScriptedControlPlane) -> None:
    state = control_plane.state
    kept = [set(each) for each in state.ways_back_of(R1)]
    state.ways_back.discard(R1)
    assert kept == [set(each) for each in state.ways_back_of(R1)]
    control_plane.engine.settle()
