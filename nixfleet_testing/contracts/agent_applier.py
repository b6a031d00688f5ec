"""The contract of an agent's applier: what must have happened after it has applied a step's effects.

Subclass `AgentApplierContract`, return a world, and run pytest. A world is the applier with what it acts
on. Three of its methods must be implemented; the others have defaults for an applier that does everything at
once, without a commit, and for worlds that do not show probes, transitions, metrics or logs.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

import pytest

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import (
    AgentEffect,
    EmitLog,
    EmitMetric,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
    LogLevel,
    RecordTransition,
    RemoteInsertQuarantine,
)
from nixfleet_state_machine.host.state import HostRolloutState, HostState
from nixfleet_testing.contracts.difference import difference
from nixfleet_testing.contracts.histories import (
    CHANNEL,
    CONVERGES,
    HISTORIES,
    HOST,
    OTHER_ROLLOUT,
    PRIOR,
    ROLLBACK_FAILS_FIRST,
    ROLLOUT,
    ROLLS_BACK,
    T0,
    TARGET,
    LocalStep,
    local_steps,
    pending_record,
)

E = TypeVar("E")

ONE_OF_EACH: tuple[AgentEffect, ...] = (
    LocalEmitEvent(ROLLOUT, CONVERGES[0], durable=True),
    LocalFireSwitch(ROLLOUT, TARGET),
    LocalFireRollbackTo(ROLLOUT, PRIOR),
    LocalResetProbeCache(ROLLOUT),
    RecordTransition(HOST, ROLLOUT, HostState.PENDING, HostState.ACTIVATING, T0),
    EmitMetric("nixfleet_host_transitions_total", (("to", "Activating"),), 1.0),
    EmitLog(LogLevel.ERROR, "nixfleet.host", "the rollback failed", (("exit_code", "1"),)),
)


class AgentWorld(ABC):
    """Your applier and the world it acts on: one host, on which `PRIOR` runs at first."""

    @abstractmethod
    def apply(self, effect: AgentEffect) -> None:
        """Give one effect to your applier."""

    @abstractmethod
    def facts(self) -> Sequence[AgentEvent]:
        """Return the facts that were sent or are kept to be sent, oldest first."""

    @abstractmethod
    def running(self) -> str:
        """Return the closure that runs now."""

    def commit(self, record: HostRolloutState) -> None:
        """Commit what was applied since the last commit: one step's effects, which led to `record`.

        Override it if your applier only collects what is to be made durable.
        """

    def act(self) -> None:
        """Do what must wait for the commit. Override it if your applier postpones anything until then."""

    def crash(self) -> None:
        """Lose what is only in memory, start again, and resume what was decided.

        Override it if your world keeps anything across a crash.
        """

    def close(self) -> None:
        """Release resources. Override it if your world has any."""

    def activations(self) -> Sequence[str] | None:
        """Return the closures that were really switched to, oldest first. `None`: this world does not count them."""
        return None

    def probed(self) -> Collection[RolloutId] | None:
        """Return the rollouts whose probes run. `None`: nothing is probed here."""
        return None

    def transitions(self) -> Sequence[RecordTransition] | None:
        """Return the transitions that were passed on, oldest first. `None`: this world passes none on."""
        return None

    def metrics(self) -> Sequence[EmitMetric] | None:
        """Return what was recorded, oldest first. `None`: nothing is counted here."""
        return None

    def logs(self) -> Sequence[EmitLog] | None:
        """Return the log lines, oldest first. `None`: this world does not log."""
        return None


class AgentApplierContract(ABC):
    """What every applier of `AgentEffect` must do. Subclass it as `class TestMine(AgentApplierContract)`."""

    @abstractmethod
    def make_world(self, record: HostRolloutState, directory: Path) -> AgentWorld:
        """Return a new world: the host of `record`, which has not said anything yet; `PRIOR` runs.

        directory: an empty one, for a world that keeps files.
        """

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[AgentWorld]:
        """A new world, closed in the end."""
        world = self.make_world(pending_record(), tmp_path)
        yield world
        world.close()

    # Every effect arrives.

    @pytest.mark.parametrize("effect", ONE_OF_EACH, ids=lambda effect: type(effect).__name__)
    def test_each_kind_of_effect_is_carried_out(
        self, effect: AgentEffect, world: AgentWorld
    ) -> None:
        """No effect that `step` can return is unknown to the applier."""
        try:
            world.apply(effect)
        except Exception as error:
            raise AssertionError(
                f"your applier raised {error!r} on {effect!r}: it needs an arm for this effect"
            ) from error

    def test_an_effect_that_is_not_the_agents_is_refused(self, world: AgentWorld) -> None:
        """An effect of the other side is an error, not something to pass over."""
        stray = cast(AgentEffect, RemoteInsertQuarantine(CHANNEL, TARGET))
        try:
            world.apply(stray)
        except Exception:
            return
        raise AssertionError(
            "your applier ignored an effect that it does not know: end its match in assert_never, "
            "or an effect that a later version adds is lost without notice"
        )

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_every_fact_is_kept_once_and_in_order(
        self, facts: tuple[AgentEvent, ...], world: AgentWorld
    ) -> None:
        """After a whole history the world has its facts, each once, unchanged, oldest first."""
        for step in local_steps(facts):
            _carry_out(world, step)
        kept = tuple(world.facts())
        missing = [fact for fact in facts if fact not in kept]
        assert not missing, f"your applier lost facts: {missing}"
        assert len(kept) == len(facts), f"your applier kept facts twice: {_seqs(kept)}"
        assert kept == facts, f"your applier re-ordered facts: {_seqs(kept)}, not {_seqs(facts)}"

    def test_a_fact_that_need_not_be_durable_is_kept_too(self, world: AgentWorld) -> None:
        """`durable=False` allows losing a fact in a crash, not leaving it out: its number is taken."""
        effects = [effect for step in local_steps(ROLLS_BACK) for effect in step.effects]
        chatter = [e for e in effects if isinstance(e, LocalEmitEvent) and not e.durable]
        for effect in chatter:
            world.apply(effect)
        world.commit(local_steps(ROLLS_BACK)[-1].record)
        world.act()
        lost = [effect.payload for effect in chatter if effect.payload not in world.facts()]
        assert not lost, f"your applier left out facts because `durable` is False: {lost}"

    # Switches.

    def test_a_switch_is_carried_out(self, world: AgentWorld) -> None:
        """After an acknowledgement the target runs."""
        _carry_out(world, local_steps(CONVERGES)[0])
        assert world.running() == TARGET, (
            f"LocalFireSwitch ordered {TARGET} and {world.running()} runs: the effect was not carried out"
        )

    @pytest.mark.parametrize("facts", [ROLLS_BACK, ROLLBACK_FAILS_FIRST], ids=["probe", "switch"])
    def test_a_rollback_is_carried_out(
        self, facts: tuple[AgentEvent, ...], world: AgentWorld
    ) -> None:
        """After a failure under `rollback-and-halt` the closure from before runs."""
        for step in local_steps(facts[:-1]):
            _carry_out(world, step)
        assert world.running() == PRIOR, (
            f"LocalFireRollbackTo ordered {PRIOR} and {world.running()} runs: the effect was not carried out"
        )

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_no_switch_begins_before_its_fact_is_kept(
        self, facts: tuple[AgentEvent, ...], world: AgentWorld
    ) -> None:
        """Whenever another closure runs, the fact that this follows from is there to be sent.

        Otherwise a crash leaves a machine that changed without any record of the reason.
        """
        running = world.running()
        for step in local_steps(facts):
            for look in _moments(world, step):
                before, running = running, world.running()
                assert running == before or step.fact in world.facts(), (
                    f"{running} runs {look}, and {step.fact!r}, from which that follows, is not kept yet: "
                    "make the fact durable before you act on it"
                )

    def test_a_switch_ordered_twice_is_done_once(self, world: AgentWorld) -> None:
        """The same order again, as after a restart, changes nothing."""
        acknowledged = local_steps(CONVERGES)[0]
        _carry_out(world, acknowledged)
        world.crash()
        world.apply(LocalFireSwitch(ROLLOUT, TARGET))
        world.commit(acknowledged.record)
        world.act()
        assert world.running() == TARGET, (
            f"after the same switch was ordered again {world.running()} runs, not {TARGET}"
        )
        _require_one_activation(world, "was ordered again after a restart")

    def test_a_decided_switch_outlives_a_crash(self, world: AgentWorld) -> None:
        """A switch that was committed and not begun is taken up after the crash, and done once."""
        acknowledged = local_steps(CONVERGES)[0]
        _apply(world, acknowledged)
        world.commit(acknowledged.record)
        world.crash()
        world.act()
        assert world.running() == TARGET, (
            f"the switch to {TARGET} was committed, then came a crash, and {world.running()} runs: "
            "keep what was decided where a restart finds it"
        )
        _require_one_activation(world, "was taken up after a crash")

    # Commits and crashes.

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_kept_facts_outlive_a_crash(
        self, facts: tuple[AgentEvent, ...], world: AgentWorld
    ) -> None:
        """Facts that may already have been sent are still there after a crash."""
        for step in local_steps(facts):
            _carry_out(world, step)
            world.crash()
        assert tuple(world.facts()) == facts, (
            f"of the facts {_seqs(facts)} a crash left {_seqs(world.facts())}"
        )

    def test_nothing_stands_before_the_commit(self, world: AgentWorld) -> None:
        """What was applied and not committed never happened: the commit may have failed."""
        if type(world).commit is AgentWorld.commit:
            pytest.skip("this applier does everything at once")
        _apply(world, local_steps(CONVERGES)[0])
        assert world.running() == PRIOR, f"{world.running()} runs before the commit"
        assert not world.facts(), f"{list(world.facts())} could be sent before the commit"
        world.crash()
        world.act()
        assert not world.facts(), f"{list(world.facts())} stands though it was never committed"
        assert world.running() == PRIOR, f"{world.running()} runs though that was never committed"

    # Probes, transitions, metrics, logs.

    def test_a_reset_stops_the_probes_of_its_rollout(self, world: AgentWorld) -> None:
        """After `LocalResetProbeCache` nothing of that rollout is probed, whatever was before."""
        soaking = local_steps(CONVERGES)[:3]
        for step in soaking:
            _carry_out(world, step)
        if world.probed() is None:
            pytest.skip("nothing is probed in this world")
        world.apply(LocalResetProbeCache(OTHER_ROLLOUT))
        _settle(world, soaking[-1].record)
        assert ROLLOUT in (world.probed() or ()), (
            f"{ROLLOUT} soaks and its probes do not run; only those of {OTHER_ROLLOUT} were reset"
        )
        world.apply(LocalResetProbeCache(ROLLOUT))
        _settle(world, soaking[-1].record)
        assert ROLLOUT not in (world.probed() or ()), (
            f"the probes of {ROLLOUT} still run after they were reset"
        )

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_each_transition_is_passed_on_once(
        self, facts: tuple[AgentEvent, ...], world: AgentWorld
    ) -> None:
        """Each transition of the host is passed on."""
        expected = _carried_out(world, facts, RecordTransition)
        if (found := world.transitions()) is None:
            pytest.skip("this world passes no transitions on")
        assert list(found) == expected, (
            f"the transitions are not those that happened: {difference(expected, list(found))}"
        )

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_each_metric_is_recorded_once(
        self, facts: tuple[AgentEvent, ...], world: AgentWorld
    ) -> None:
        """Each metric of a history is recorded once."""
        expected = _carried_out(world, facts, EmitMetric)
        if (found := world.metrics()) is None:
            pytest.skip("nothing is counted in this world")
        assert list(found) == expected, (
            f"the metrics are not those that were ordered: {difference(expected, list(found))}"
        )

    def test_each_log_line_reaches_the_operator(self, world: AgentWorld) -> None:
        """A rollback that failed is logged once."""
        expected = _carried_out(world, ROLLBACK_FAILS_FIRST, EmitLog)
        if (found := world.logs()) is None:
            pytest.skip("nothing is logged in this world")
        assert list(found) == expected, (
            f"the log lines are not those that were ordered: {difference(expected, list(found))}"
        )


def _apply(world: AgentWorld, step: LocalStep) -> None:
    for effect in step.effects:
        world.apply(effect)


def _settle(world: AgentWorld, record: HostRolloutState) -> None:
    world.commit(record)
    world.act()


def _carry_out(world: AgentWorld, step: LocalStep) -> None:
    _apply(world, step)
    _settle(world, step.record)


def _moments(world: AgentWorld, step: LocalStep) -> Iterator[str]:
    """Carry out `step`, and stop at each point where somebody could look, or where a crash could come."""
    for effect in step.effects:
        world.apply(effect)
        yield f"after {type(effect).__name__}"
    world.commit(step.record)
    yield "after the commit"
    world.act()
    yield "after what had to wait for the commit"


def _carried_out(world: AgentWorld, facts: Sequence[AgentEvent], kind: type[E]) -> list[E]:
    """Carry out a history, and return its effects of one kind."""
    steps = local_steps(facts)
    for step in steps:
        _carry_out(world, step)
    return [effect for step in steps for effect in step.effects if isinstance(effect, kind)]


def _require_one_activation(world: AgentWorld, what_happened: str) -> None:
    done = world.activations()
    assert done is None or list(done) == [TARGET], (
        f"a switch that {what_happened} was carried out as {list(done or ())}: it must be done once in "
        "effect, so look at what runs first"
    )


def _seqs(facts: Sequence[AgentEvent]) -> list[int]:
    return [fact.seq for fact in facts]
