"""A wave begins when the wave before it is done and its guards are satisfied, and not before."""

from pathlib import Path

from nixfleet_control_plane.messages.log_entry import RolloutMoved
from nixfleet_proto.policy import AtDeadline, Deadline, Deadlines, RolloutPolicy
from nixfleet_proto.steering.guards import WaveGuards
from nixfleet_state_machine.rollout.event import GuardsOpened, RolloutEvent, Verdict, WaveAdvanced
from nixfleet_state_machine.rollout.state import BEFORE_FIRST_WAVE, RolloutState, Standing
from tests.engines.control_plane import ScriptedControlPlane
from tests.engines.likeness import likeness
from tests.engines.releases import Layout
from tests.engines.scripted_host import ScriptedHost

OPEN = WaveGuards()


class Fleet(ScriptedControlPlane):
    """One canary and two others. guards: of both waves."""

    def __init__(self, directory: Path, *guards: WaveGuards, layout: Layout | None = None) -> None:
        super().__init__(directory, layout or Layout(guards=guards))
        self.r1 = self.publish("r1")

    def finish(self, name: str) -> None:
        ScriptedHost(self, self.r1, name).finish()

    def pass_minutes(self, minutes: float) -> None:
        self.wait(minutes=minutes)
        self.tick()

    @property
    def wave(self) -> int:
        return self.rollout(self.r1).current_wave

    def moved(self) -> list[RolloutEvent]:
        return [entry.event for entry in self.logged(RolloutMoved)]

    def check_restart(self) -> None:
        """The views are what the log says, and a start brings the same state back."""
        assert self.check_store().differences == ()
        before = likeness(self.state)
        self.restart_control_plane()
        assert likeness(self.state) == before


def test_a_wave_without_guards_begins_when_the_one_before_is_done(scratch: Path) -> None:
    """Nothing about guards is logged: the log is that of a fleet which does not know them."""
    fleet = Fleet(scratch)
    fleet.finish("web-01")

    assert fleet.wave == 1
    assert not any(isinstance(event, GuardsOpened | Verdict) for event in fleet.moved())


def test_a_wave_that_bakes_begins_after_its_minutes(scratch: Path) -> None:
    """They run from when the wave before was done, and the end is an event in the log."""
    fleet = Fleet(scratch, OPEN, WaveGuards(bake_minutes=30))
    fleet.finish("web-01")
    done_at = fleet.now

    fleet.pass_minutes(29)
    assert fleet.wave == 0
    assert fleet.dispatch_of("web-02") is None
    assert fleet.rollout(fleet.r1).guarded_since == done_at

    fleet.pass_minutes(1)
    assert fleet.wave == 1
    kinds = [type(event) for event in fleet.moved()]
    assert kinds.index(GuardsOpened) < kinds.index(Verdict) < kinds.index(WaveAdvanced)
    assert fleet.rollout(fleet.r1).guarded_since is None
    fleet.check_restart()


def test_a_bake_goes_on_through_a_restart(scratch: Path) -> None:
    """What it runs from is in the record."""
    fleet = Fleet(scratch, OPEN, WaveGuards(bake_minutes=30))
    fleet.finish("web-01")
    fleet.pass_minutes(20)
    fleet.check_restart()
    fleet.pass_minutes(10)

    assert fleet.wave == 1


def test_the_first_wave_can_have_guards(scratch: Path) -> None:
    """Its rollout is Opening at no wave, nobody is dispatched, and then it goes on as ever."""
    fleet = Fleet(scratch, WaveGuards(bake_minutes=10), OPEN)
    assert fleet.rollout(fleet.r1).state is RolloutState.OPENING
    assert fleet.wave == BEFORE_FIRST_WAVE
    assert fleet.dispatch_of("web-01") is None
    fleet.check_restart()

    fleet.pass_minutes(10)
    assert fleet.wave == 0
    assert fleet.dispatch_of("web-01") is not None
    for name in ("web-01", "web-02", "web-03"):
        fleet.finish(name)
    assert fleet.rollout(fleet.r1).state is RolloutState.TERMINAL
    fleet.check_restart()


def test_a_new_ref_inherits_nothing(scratch: Path) -> None:
    """The bake of the release before is not that of this one."""
    fleet = Fleet(scratch, WaveGuards(bake_minutes=10), OPEN)
    fleet.pass_minutes(9)
    r2 = fleet.publish("r2")
    fleet.pass_minutes(9)

    assert fleet.rollout(r2).current_wave == BEFORE_FIRST_WAVE
    assert fleet.rollout(fleet.r1).guarded_since is None


def test_a_host_that_comes_while_guards_are_asked_is_late(scratch: Path) -> None:
    """Its wave was done, and does not become undone: the wave that is guarded waits for nobody of it."""
    deadlines = Deadlines(ack=Deadline(10, AtDeadline.SKIP))
    layout = Layout(
        waves=(("web-01", "web-02"), ("web-03",)),
        policy=RolloutPolicy(deadlines=deadlines),
        guards=(OPEN, WaveGuards(bake_minutes=30)),
    )
    fleet = Fleet(scratch, layout=layout)
    fleet.finish("web-01")
    fleet.pass_minutes(10)
    assert fleet.rollout(fleet.r1).guarded_since is not None

    fleet.heartbeat("web-02", {})
    assert fleet.rollout(fleet.r1).standing_of("web-02") is Standing.LATE
    fleet.pass_minutes(30)
    assert fleet.wave == 1
