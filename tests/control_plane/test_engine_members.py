"""A release of the same ref adds hosts to a rollout and takes hosts out of it, and changes nothing else."""

from pathlib import Path

import pytest
from attrs import evolve

from nixfleet_control_plane.messages.inputs import CommandOutcome, RetryHosts
from nixfleet_control_plane.messages.log_entry import (
    ArtefactTaken,
    RolloutMoved,
)
from nixfleet_proto.agent_event import OnHealthFailure, ProbeStatus
from nixfleet_proto.fleet import Edge
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.policy import Retry, RolloutPolicy
from nixfleet_runtime.transport import EventsOutcome, ReplayFrom, RolloutUnknown
from nixfleet_state_machine.host.state import HostState
from nixfleet_state_machine.rollout.event import MembersChanged, WaveBroken
from nixfleet_state_machine.rollout.state import RolloutState, Standing
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

CANARY, REST = ("web-01",), ("web-02", "web-03")


class Fleet(ScriptedControlPlane):
    """One canary and two others, to which hosts are added and from which they are removed."""

    def __init__(self, directory: Path, layout: Layout | None = None) -> None:
        super().__init__(directory, layout or Layout(waves=(CANARY, REST)))
        self.r1 = self.publish("r1")

    def amend(self, *waves: tuple[str, ...]) -> MembersChanged:
        """Publish the same ref with other hosts, later; return what the log says of it last."""
        self.wait(minutes=1)
        self.layout = evolve(self.layout, waves=waves)
        assert self.publish("r1") == self.r1
        return self.changes()[-1]

    def refusal(self, layout: Layout) -> str:
        """Return why the same ref with another layout is refused."""
        self.wait(minutes=1)
        outcome = self.offer(self.ci.release(layout, "r1", self.now))
        ((rollout_id, why),) = outcome.refused
        assert rollout_id == self.r1
        return why

    def host(self, name: str, rollout_id: RolloutId | None = None) -> ScriptedHost:
        return ScriptedHost(self, rollout_id or self.r1, name)

    def finish(self, *names: str) -> None:
        for name in names:
            self.host(name).finish()

    def state_now(self) -> RolloutState:
        return self.rollout(self.r1).state

    def standing(self, name: str) -> Standing:
        return self.rollout(self.r1).standing_of(name)

    def changes(self) -> list[MembersChanged]:
        events = (entry.event for entry in self.logged(RolloutMoved))
        return [event for event in events if isinstance(event, MembersChanged)]

    def check_restart(self) -> None:
        """The views are what the log says; a start brings the same state back, with its cache and without."""
        for _ in range(2):
            assert self.check_store().differences == ()
            before = likeness(self.state)
            self.restart_control_plane()
            assert likeness(self.state) == before
            self.flush()


def test_a_host_is_added_to_a_wave_under_way_and_the_rollout_waits_for_it(scratch: Path) -> None:
    """The artefact is in the log before the event, and the host is dispatched like every other."""
    fleet = Fleet(scratch)
    fleet.finish("web-01", "web-02")
    event = fleet.amend(CANARY, (*REST, "web-04"))

    assert (event.joined, event.left, event.late) == (("web-04",), (), ())
    kinds = [
        type(each.entry)
        for each in fleet.log()
        if isinstance(each.entry, ArtefactTaken | RolloutMoved)
    ]
    assert kinds[-2:] == [ArtefactTaken, RolloutMoved]
    assert ("web-04", fleet.r1) in fleet.queued()
    fleet.check_restart()
    fleet.finish("web-03")
    assert fleet.state_now() is RolloutState.ACTIVE
    fleet.finish("web-04")
    assert fleet.state_now() is RolloutState.TERMINAL
    fleet.check_restart()


def test_a_host_is_added_to_a_wave_that_is_done_and_is_late(scratch: Path) -> None:
    """It is served; that it fails stops nobody."""
    fleet = Fleet(scratch)
    fleet.finish("web-01")
    event = fleet.amend((*CANARY, "web-00"), REST)

    assert event.late == ("web-00",)
    assert ("web-00", fleet.r1) in fleet.queued()
    fleet.host("web-00").revert()
    assert fleet.state_now() is RolloutState.ACTIVE
    fleet.finish("web-02", "web-03")
    assert fleet.state_now() is RolloutState.TERMINAL
    fleet.check_restart()


def test_a_host_is_added_to_a_rollout_that_is_terminal_and_is_served(scratch: Path) -> None:
    """However long ago that was, and the rollout stays Terminal."""
    fleet = Fleet(scratch)
    fleet.finish("web-01", "web-02", "web-03")
    assert fleet.state_now() is RolloutState.TERMINAL
    event = fleet.amend(CANARY, (*REST, "web-04"))

    assert event.late == ("web-04",)
    assert fleet.queued() == [("web-04", fleet.r1)]
    fleet.check_restart()
    fleet.finish("web-04")
    assert fleet.states(fleet.r1)["web-04"] is HostState.CONVERGED
    assert fleet.state_now() is RolloutState.TERMINAL


def test_a_host_leaves_and_what_is_queued_for_it_is_withdrawn(scratch: Path) -> None:
    """Its facts are of no rollout that is known here; the rollout completes without it."""
    fleet = Fleet(scratch)
    fleet.finish("web-01", "web-02")
    leaver = fleet.host("web-03")
    assert fleet.dispatch_of("web-03") is not None
    fleet.amend(CANARY, ("web-02",))

    assert fleet.queued() == []
    assert fleet.standing("web-03") is Standing.LEFT
    assert fleet.state_now() is RolloutState.TERMINAL
    assert fleet.hear("web-03", fleet.r1) == EventsOutcome(0)
    fleet.check_restart()
    assert leaver.facts == []


def test_a_host_that_left_in_the_middle_of_its_switch_is_not_counted(scratch: Path) -> None:
    """It finishes what it is at; it holds no slot, and what it tells is refused as of an unknown rollout."""
    fleet = Fleet(scratch, Layout(waves=(CANARY, REST), max_in_flight=1))
    fleet.finish("web-01")
    leaver = fleet.host("web-02")
    leaver.acknowledge()
    leaver.start()
    assert fleet.queued() == []
    fleet.amend(CANARY, ("web-03",))

    assert fleet.queued() == [("web-03", fleet.r1)]
    told = leaver.tell(lambda seq: leaver.facts[0])
    assert told == EventsOutcome(0, RolloutUnknown(fleet.r1))
    fleet.check_restart()


def test_the_only_host_that_succeeded_leaves_and_the_wave_is_broken(scratch: Path) -> None:
    """Nobody is left who did; a rollout that waits for nobody would be idle without saying so."""
    policy = RolloutPolicy(max_failures=1)
    layout = Layout(waves=(CANARY, REST), policy=policy, on_health_failure=OnHealthFailure.HALT)
    fleet = Fleet(scratch, layout)
    fleet.finish("web-01", "web-02")
    fleet.amend(CANARY, REST[1:])
    failing = fleet.host("web-03")
    failing.soak()
    failing.fail(OnHealthFailure.HALT)

    events = [entry.event for entry in fleet.logged(RolloutMoved)]
    assert any(isinstance(event, WaveBroken) for event in events)
    fleet.check_restart()


def test_a_success_that_leaves_breaks_a_wave_of_failures(scratch: Path) -> None:
    """The verdict is taken when the host leaves, for no fact of the others will come."""
    policy = RolloutPolicy(max_failures=1)
    layout = Layout(
        waves=(CANARY, (*REST, "web-04")), policy=policy, on_health_failure=OnHealthFailure.HALT
    )
    fleet = Fleet(scratch, layout)
    fleet.finish("web-01", "web-02")
    failing = fleet.host("web-03")
    failing.soak()
    failing.fail(OnHealthFailure.HALT)
    assert fleet.state_now() is RolloutState.ACTIVE
    fleet.amend(CANARY, ("web-03",))

    assert fleet.state_now() is RolloutState.FAILED
    fleet.check_restart()


def test_a_host_that_left_joins_again_and_tells_what_it_did(scratch: Path) -> None:
    """Its record begins anew, and its journal is asked for."""
    fleet = Fleet(scratch)
    fleet.finish("web-01")
    back = fleet.host("web-02")
    back.finish()
    before = fleet.mirrored(fleet.r1, "web-02")
    fleet.amend(CANARY, ("web-03",))
    fleet.check_restart()
    fleet.amend(CANARY, REST)

    assert fleet.standing("web-02") is Standing.COUNTED
    assert fleet.states(fleet.r1)["web-02"] is HostState.PENDING
    fleet.check_restart()
    reply = fleet.heartbeat("web-02", {fleet.r1: len(back.facts)})
    assert reply.replay_from == (ReplayFrom(fleet.r1, 1),)
    for fact in back.facts:
        assert fleet.hear("web-02", fleet.r1, fact) == EventsOutcome(1)
    after = fleet.mirrored(fleet.r1, "web-02")
    assert (after.state, after.converged_at) == (HostState.CONVERGED, before.converged_at)
    fleet.check_restart()


def test_a_host_that_joins_again_without_its_journal_makes_its_first_attempt(
    scratch: Path,
) -> None:
    """Further attempts were ordered of the machine that left, and a new one refuses them."""
    policy = RolloutPolicy(max_failures=1)
    layout = Layout(waves=(CANARY, REST), policy=policy, on_health_failure=OnHealthFailure.HALT)
    fleet = Fleet(scratch, layout)
    fleet.finish("web-01")
    old = fleet.host("web-02")
    old.soak()
    old.fail(OnHealthFailure.HALT)
    command = RetryHosts(fleet.r1, frozenset({"web-02"}), "ada", "its disk is replaced")
    assert fleet.command(command) == CommandOutcome()
    fleet.amend(CANARY, ("web-03",))
    fleet.amend(CANARY, REST)

    dispatch = fleet.dispatch_of("web-02")
    assert dispatch is not None
    assert dispatch.attempt_number == 1
    fleet.finish("web-02", "web-03")
    assert fleet.state_now() is RolloutState.TERMINAL
    fleet.check_restart()


def test_a_host_joins_again_under_another_target_and_a_start_reads_the_whole_log(
    scratch: Path,
) -> None:
    """What it told of its earlier target is no part of its record, with the cache and without."""
    fleet = Fleet(scratch)
    fleet.finish("web-01")
    fleet.host("web-02").finish()
    fleet.amend(CANARY, ("web-03",))
    fleet.wait(minutes=1)
    layout = evolve(fleet.layout, waves=(CANARY, REST))
    release = fleet.ci.release(layout, "r1", fleet.now)
    (manifest,) = release.manifests
    hosts = release.fleet.value.hosts
    other = evolve(hosts["web-02"], closure_hash="another")
    of_fleet = fleet.ci.fleet(
        evolve(release.fleet.value, hosts=type(hosts)({**hosts, "web-02": other})), fleet.now
    )
    host_set = tuple(
        evolve(each, target_closure="another") if each.hostname == "web-02" else each
        for each in manifest.value.host_set
    )
    amended = evolve(manifest.value, host_set=host_set, fleet_resolved_hash=of_fleet.artefact_hash)
    outcome = fleet.offer(
        evolve(release, fleet=of_fleet, manifests=(fleet.ci.manifest(amended, fleet.now),))
    )

    assert outcome.refused == ()
    assert fleet.mirrored(fleet.r1, "web-02").target_closure == "another"
    fleet.check_restart()


def test_failing_probes_of_a_host_that_left_hold_nobody(scratch: Path) -> None:
    """Not after it joined again either, before it says so anew."""
    fleet = Fleet(scratch)
    canary = fleet.host("web-01")
    canary.finish()
    host = fleet.host("web-02")
    host.soak()
    host.probe(ProbeStatus.FAIL)
    assert fleet.state.outstanding[fleet.r1, "web-02"]
    fleet.amend(CANARY, ("web-03",))
    fleet.check_restart()
    fleet.amend(CANARY, REST)

    assert fleet.state.outstanding.get((fleet.r1, "web-02")) is None
    fleet.check_restart()


def test_a_rollout_that_is_halted_is_amended_and_stays_halted(scratch: Path) -> None:
    """The host that failed leaves; an operator clears what is left to be looked at."""
    fleet = Fleet(scratch)
    fleet.host("web-01").revert()
    assert fleet.state_now() is RolloutState.REVERTED
    fleet.amend(("web-00",), REST)

    assert fleet.state_now() is RolloutState.REVERTED
    assert fleet.queued() == []
    fleet.check_restart()


def test_the_same_hosts_signed_again_change_no_member(scratch: Path) -> None:
    """A release that is only signed anew is no amendment."""
    fleet = Fleet(scratch)
    fleet.wait(minutes=1)
    fleet.publish("r1")

    assert fleet.changes() == []


def test_a_rollout_that_was_superseded_is_not_amended(scratch: Path) -> None:
    """As for any manifest of it."""
    fleet = Fleet(scratch)
    fleet.publish("r2")

    why = fleet.refusal(Layout(waves=(CANARY, (*REST, "web-04"))))
    assert why.startswith("stable@r1 was superseded")


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (
            Layout(waves=(("web-01", "web-02"), ("web-03", "web-04"))),
            "wave_of['web-02']: expected wave 1, found wave 0",
        ),
        (
            Layout(waves=(CANARY, REST, ("web-04",))),
            "wave_soak_minutes: expected [5, 5], found [5, 5, 5]",
        ),
        (
            Layout(waves=(CANARY, REST), soak_minutes=6),
            "wave_soak_minutes: expected [5, 5], found [6, 6]",
        ),
        (
            Layout(waves=(CANARY, REST), closure="same"),
            "targets['web-01']: expected 'r1-web-01', found 'same'; "
            "targets['web-02']: expected 'r1-web-02', found 'same'; "
            "targets['web-03']: expected 'r1-web-03', found 'same'",
        ),
        (
            Layout(waves=(CANARY, REST), edges=(Edge("web-02", "web-03"),)),
            "host_edges: expected none, found web-03 waits for web-02",
        ),
        (
            Layout(waves=(CANARY, REST), after=("edge",)),
            "predecessors: expected none, found [edge]",
        ),
        (
            Layout(waves=(CANARY, REST), max_in_flight=1),
            "budgets['all']: expected none, found a budget",
        ),
        (
            Layout(waves=(CANARY, REST), policy=RolloutPolicy(retry=Retry(attempts=2))),
            "rollout_policy.retry.attempts: expected 1, found 2",
        ),
    ],
)
def test_what_differs_besides_hosts_is_refused_by_name(
    scratch: Path, layout: Layout, expected: str
) -> None:
    """Everything that differs is named, with where it is."""
    fleet = Fleet(scratch)
    rows = len(fleet.changes())

    assert fleet.refusal(layout) == (
        f"stable@r1 is in force with other terms: {expected}. Under the same ref only hosts may be added or removed: "
        "expected that, or a new channel ref"
    )
    assert len(fleet.changes()) == rows


def test_an_edge_of_a_host_that_joins_comes_with_it(scratch: Path) -> None:
    """It concerns no host that was there before, but for what that one waits for."""
    fleet = Fleet(scratch)
    fleet.finish("web-01")
    fleet.layout = evolve(fleet.layout, edges=(Edge("web-02", "web-04"),))
    fleet.amend(CANARY, (*REST, "web-04"))

    assert ("web-04", fleet.r1) not in fleet.queued()
    fleet.finish("web-02")
    assert ("web-04", fleet.r1) in fleet.queued()
    fleet.check_restart()
