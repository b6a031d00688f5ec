"""Laws of the control plane: what holds whatever CI, hosts, operators, the network and the machine do."""

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import TypeAlias, TypeVar

from attrs import evolve, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from nixfleet_agent.activation.activator import (
    RollbackFinished,
    SwitchDeferred,
    SwitchEnd,
    SwitchFailed,
    SwitchPhase,
)
from nixfleet_agent.messages.inputs import Tick
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_control_plane.messages.inputs import RetireQuarantine
from nixfleet_control_plane.overview.rollouts import rollout_overviews
from nixfleet_proto.agent_event import OnHealthFailure, ProbeStatus, ProbeSubResult
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.planner.action import DeferDispatch, PlanAction
from nixfleet_state_machine.planner.plan import plan_next
from nixfleet_state_machine.rollout.state import RolloutState
from tests.engines.judge import Judge
from tests.engines.likeness import likeness
from tests.engines.overview_walk import overview_differences
from tests.engines.releases import CHANNEL, Layout
from tests.engines.rough_fleet import RoughFleet
from tests.engines.scratch import scratch_directory
from tests.engines.small_fleet import Behaviour
from tests.engines.tampering import cut

T = TypeVar("T")

HOSTS = ("web-01", "web-02", "web-03")
CLOSURES = ("red", "green")
MINUTES = (0.5, 1, 5, 72 * 60)
STEPS_BETWEEN_RELEASES = 6
WILD_ACTS = 20
WAIT_SHARE = 0.1
CHANGE_OF_MIND_SHARE = 0.05

_BROKEN = SwitchFailed(SwitchPhase.SWITCH, 1, "no such unit")
_ILL = ProbeOutcome(ProbeStatus.FAIL, "expected 200, found 503")
_LAX = ProbeOutcome(
    ProbeStatus.PASS,
    None,
    (
        ProbeSubResult("4.1", ProbeStatus.FAIL, "nis2"),
        ProbeSubResult("4.1", ProbeStatus.PASS, "iso-27001"),
    ),
)


Act: TypeAlias = Callable[[RoughFleet, str], None]


def _work(fleet: RoughFleet, hostname: str) -> None:
    fleet.agent(hostname).work()


def _look(fleet: RoughFleet, hostname: str) -> None:
    agent = fleet.agent(hostname)
    agent.probe()
    agent.tell(Tick())


def _live(fleet: RoughFleet, hostname: str) -> None:
    fleet.ask_for_dispatch(hostname)
    fleet.take_dispatch(hostname)
    _work(fleet, hostname)
    _look(fleet, hostname)


def _compare(fleet: RoughFleet, hostname: str) -> None:
    fleet.compare(fleet.agents[hostname])


def _reboot(fleet: RoughFleet, hostname: str) -> None:
    fleet.agent(hostname).reboot()


def _first_message_arrives(fleet: RoughFleet, hostname: str) -> None:
    for message in fleet.under_way_from(hostname)[:1]:
        fleet.under_way.remove(message)
        fleet.arrive(message, is_answer_lost=False)


def _last_message_arrives(fleet: RoughFleet, hostname: str) -> None:
    for message in fleet.under_way_from(hostname)[-1:]:
        fleet.under_way.remove(message)
        fleet.arrive(message, is_answer_lost=False)


def _copy_arrives(fleet: RoughFleet, hostname: str) -> None:
    for message in fleet.under_way_from(hostname)[-1:]:
        fleet.arrive(message, is_answer_lost=True)


def _message_is_lost(fleet: RoughFleet, hostname: str) -> None:
    for message in fleet.under_way_from(hostname)[:1]:
        fleet.under_way.remove(message)


ACTS: tuple[Act, ...] = (
    RoughFleet.ask_for_dispatch,
    RoughFleet.take_dispatch,
    _work,
    _look,
    _live,
    RoughFleet.post,
    RoughFleet.post_piecemeal,
    _first_message_arrives,
    _last_message_arrives,
    _copy_arrives,
    _message_is_lost,
    _compare,
    _reboot,
)


@frozen
class Conduct:
    """How a closure behaves; `None`: as it should. rollback_exit_code: of a rollback to it."""

    switch: SwitchEnd | None = None
    probe: ProbeOutcome | None = None
    rollback_exit_code: int = 0


hosts = st.sampled_from(HOSTS)
closures = st.sampled_from(CLOSURES)
conducts = st.sampled_from(
    (
        Conduct(),
        Conduct(switch=_BROKEN),
        Conduct(probe=_ILL),
        Conduct(switch=SwitchDeferred("kernel")),
        Conduct(probe=_LAX),
        Conduct(probe=_ILL, rollback_exit_code=1),
    )
)
layouts = st.builds(
    Layout,
    waves=st.sampled_from(
        ((HOSTS,), (HOSTS[:1], HOSTS[1:]), (HOSTS[:2], HOSTS[2:]), tuple((h,) for h in HOSTS))
    ),
    soak_minutes=st.sampled_from((0, 1, 5)),
    max_in_flight=st.sampled_from((None, 1, 2)),
    on_health_failure=st.sampled_from(OnHealthFailure),
)


class ControlPlaneInRoughWeather(RuleBasedStateMachine):
    """One control plane and three hosts, and everything that may happen to them, in any order."""

    fleet: RoughFleet

    def __init__(self) -> None:
        super().__init__()
        self._resources = ExitStack()
        self._releases = 0
        self._steps_since_release = STEPS_BETWEEN_RELEASES

    @initialize(layout=layouts, takes_back_first=st.booleans())
    def begin(self, layout: Layout, takes_back_first: bool) -> None:
        directory = self._resources.enter_context(scratch_directory())
        self.fleet = self._resources.enter_context(closing(RoughFleet(directory, layout)))
        self.fleet.takes_back_first = takes_back_first

    # What CI and operators do.

    # A release that came with every other step would leave none time to get anywhere.
    @precondition(lambda self: self._steps_since_release >= STEPS_BETWEEN_RELEASES)
    @rule(closure=closures, conduct=conducts)
    def a_release_is_published(self, closure: str, conduct: Conduct) -> None:
        self._behave(closure, conduct)
        self._steps_since_release = 0
        self._releases += 1
        layout = evolve(self.fleet.layout, closure=closure)
        self.fleet.publish(f"r{self._releases}", layout)

    @precondition(lambda self: self.fleet.released)
    @rule(data=st.data())
    def a_release_is_signed_again(self, data: st.DataObject) -> None:
        release = self.fleet.released[data.draw(st.sampled_from(sorted(self.fleet.released)))]
        self.fleet.offer(self.fleet.ci.signed_again(release, self.fleet.now))

    @precondition(lambda self: self.fleet.released)
    @rule(data=st.data())
    def a_release_is_offered_again(self, data: st.DataObject) -> None:
        self.fleet.offer(
            self.fleet.released[data.draw(st.sampled_from(sorted(self.fleet.released)))]
        )

    @precondition(lambda self: not self.fleet.state.view.holds)
    @rule(data=st.data())
    def an_operator_pauses(self, data: st.DataObject) -> None:
        free = sorted({*self.fleet.state.view.offers, *self.fleet.opened()})
        if free:
            self.fleet.pause(data.draw(st.sampled_from(free)))

    @precondition(lambda self: self.fleet.state.view.holds)
    @rule(data=st.data())
    def an_operator_resumes(self, data: st.DataObject) -> None:
        self.fleet.resume(data.draw(st.sampled_from(sorted(self._held()))))

    @precondition(lambda self: self._halted())
    @rule(everybody=st.booleans())
    def an_operator_clears(self, everybody: bool) -> None:
        for rollout_id in self._halted():
            self.fleet.clear(rollout_id, *(HOSTS if everybody else ()))

    @precondition(lambda self: self.fleet.state.quarantines.get(CHANNEL))
    @rule(data=st.data())
    def an_operator_retires_a_quarantine(self, data: st.DataObject) -> None:
        closure = data.draw(st.sampled_from(sorted(self.fleet.state.quarantines[CHANNEL])))
        command = RetireQuarantine(CHANNEL, closure, "ada", "was the disk")
        assert self.fleet.command(command).refusal is None

    # What closures and hosts do.

    @rule(closure=closures, conduct=conducts)
    def a_closure_turns_out_otherwise(self, closure: str, conduct: Conduct) -> None:
        self._behave(closure, conduct)

    @rule(hostname=hosts, acts=st.lists(st.sampled_from(ACTS), min_size=1, max_size=12))
    def a_host_acts(self, hostname: str, acts: list[Act]) -> None:
        for act in acts:
            act(self.fleet, hostname)

    @rule(seed=st.integers(0, 2**32 - 1))
    def everybody_acts_at_random(self, seed: int) -> None:
        """More than can be drawn one by one. Minutes pass meanwhile, and operators change their minds."""
        chance = random.Random(seed)
        for _ in range(WILD_ACTS):
            chance.choice(ACTS)(self.fleet, chance.choice(HOSTS))
            if chance.random() < WAIT_SHARE:
                self.fleet.wait(minutes=1)
            if chance.random() < CHANGE_OF_MIND_SHARE:
                self._change_mind()

    # What the network, time and the control plane's machine do.

    @precondition(lambda self: self.fleet.under_way)
    @rule(data=st.data(), is_copy=st.booleans(), is_answer_lost=st.booleans())
    def a_message_arrives(self, data: st.DataObject, is_copy: bool, is_answer_lost: bool) -> None:
        index = data.draw(st.integers(0, len(self.fleet.under_way) - 1))
        message = self.fleet.under_way[index] if is_copy else self.fleet.under_way.pop(index)
        self.fleet.arrive(message, is_answer_lost=is_answer_lost)

    @rule(minutes=st.sampled_from((1, 1, 2, 4, 8)))
    def minutes_are_calm(self, minutes: int) -> None:
        for _ in range(minutes):
            self.fleet.calm_minute()

    @rule(minutes=st.sampled_from(MINUTES))
    def time_passes(self, minutes: float) -> None:
        self.fleet.wait(minutes=minutes)
        self.fleet.tick()

    @rule(limit=st.integers(1, 4))
    def records_are_written_behind(self, limit: int) -> None:
        self.fleet.flush(limit)

    @rule()
    def the_control_plane_crashes(self) -> None:
        before = likeness(self.fleet.state), self._plan()
        self.fleet.restart_control_plane()
        assert (likeness(self.fleet.state), self._plan()) == before

    @rule()
    def the_control_plane_crashes_and_loses_its_cache(self) -> None:
        before = likeness(self.fleet.state)
        self.fleet.store.close()
        cut(self.fleet.database, "DELETE FROM host_rollout_records WHERE hostname != 'web-02'")
        self.fleet.start_control_plane()
        assert likeness(self.fleet.state) == before

    # What holds.

    @invariant()
    def what_must_hold_holds(self) -> None:
        self._steps_since_release += 1
        # The mirror is what the host lived.
        assert self.fleet.differing_mirrors() == []
        # Nothing but reasons to wait is left to decide.
        assert all(isinstance(action, DeferDispatch) for action in self._plan())
        self._nobody_can_be_handed_what_must_not_be()
        self._only_who_waits_is_said_to_wait()
        assert overview_differences(self.fleet.state) == []
        rollout_overviews(self.fleet.state, {}, self.fleet.now, {})

    def _nobody_can_be_handed_what_must_not_be(self) -> None:
        state = self.fleet.state
        for hostname, waiting in state.dispatches.items():
            for dispatch in waiting:
                record = state.view.host(self._id(dispatch.rollout_id), hostname)
                rollout = self.fleet.rollout(self._id(dispatch.rollout_id))
                assert record is not None
                assert record.dispatch_acked_at is None
                assert rollout.state in (RolloutState.ACTIVE, RolloutState.CONVERGING)
                assert not {CHANNEL, dispatch.rollout_id} & {
                    str(hold.scope) for hold in state.view.holds
                }
                assert dispatch.target_closure not in state.quarantines.get(CHANNEL, ())

    def _only_who_waits_is_said_to_wait(self) -> None:
        view = self.fleet.state.view
        for rollout_id, hostname in self.fleet.state.deferrals:
            assert view.is_waiting(rollout_id, hostname)
            assert self.fleet.rollout(rollout_id).state.is_live

    def teardown(self) -> None:
        """The log tells of nothing that should not have been, and of all that is in the views."""
        with self._resources:
            if hasattr(self, "fleet"):
                self.fleet.takes_back_first = False
                self._judge()
                self._come_to_rest()
                self._judge()

    def _judge(self) -> None:
        report = self.fleet.check_store()
        assert report.differences == ()
        assert report.entries == self.fleet.state.head_seq
        Judge().read(self.fleet.log())

    def _come_to_rest(self) -> None:
        """When the weather is fair again a good release gets everywhere."""
        self.fleet.behaviour = Behaviour()
        self.fleet.under_way.clear()
        for scope in self._held():
            self.fleet.resume(scope)
        rollout_id = self.fleet.publish("last")
        for _ in range(40):
            if self.fleet.rollout(rollout_id).state is RolloutState.TERMINAL:
                break
            self.fleet.calm_minute()
            self.what_must_hold_holds()
        assert self.fleet.rollout(rollout_id).state is RolloutState.TERMINAL
        assert {agent.running for agent in self.fleet.agents.values()} == {
            f"last-{hostname}" for hostname in HOSTS
        }

    def _behave(self, closure: str, conduct: Conduct) -> None:
        known = self.fleet.behaviour
        rollback = RollbackFinished(closure, conduct.rollback_exit_code)
        self.fleet.behaviour = Behaviour(
            switch=_with(known.switch, closure, conduct.switch),
            rollback={**known.rollback, closure: rollback},
            probe=_with(known.probe, closure, conduct.probe),
        )

    def _id(self, rollout_id: str) -> RolloutId:
        return RolloutId(rollout_id)

    def _change_mind(self) -> None:
        if CHANNEL in self._held():
            self.fleet.resume(CHANNEL)
        elif CHANNEL in self.fleet.state.view.offers:
            self.fleet.pause(CHANNEL)

    def _held(self) -> list[str]:
        return sorted({str(hold.scope) for hold in self.fleet.state.view.holds})

    def _halted(self) -> list[RolloutId]:
        rollouts = self.fleet.state.view.rollouts.values()
        return sorted(record.rollout_id for record in rollouts if record.state.is_halted)

    def _plan(self) -> tuple[PlanAction, ...]:
        state = self.fleet.state
        return plan_next(state.view, state.quarantines, self.fleet.now)


def _with(known: Mapping[str, T], closure: str, outcome: T | None) -> Mapping[str, T]:
    others = {name: each for name, each in known.items() if name != closure}
    return others if outcome is None else {**others, closure: outcome}


TestControlPlaneInRoughWeather = ControlPlaneInRoughWeather.TestCase
TestControlPlaneInRoughWeather.settings = settings(
    max_examples=settings().max_examples * 3 // 4, stateful_step_count=40
)
