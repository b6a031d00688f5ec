"""The contract of a control plane's applier: what must have happened after it has applied a step's effects.

Subclass `ControlPlaneApplierContract`, return a world, and run pytest. The methods of a world that have a
body need not be written for an applier that does everything at once, and where there is nothing to see.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest
from attrs import frozen

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_proto.ids import RolloutId
from nixfleet_state_machine.host.effect import (
    ControlPlaneEffect,
    EmitLog,
    EmitMetric,
    LocalFireSwitch,
    LogLevel,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
    RemoteOpenRolloutRecord,
    RemoteQueueDispatch,
)
from nixfleet_state_machine.host.state import HostState
from nixfleet_testing.contracts.difference import difference
from nixfleet_testing.contracts.histories import (
    CHANNEL,
    CONVERGES,
    HISTORIES,
    HOST,
    OTHER_HOST,
    ROLLBACK_FAILS_FIRST,
    ROLLOUT,
    SOAK,
    T0,
    TARGET,
    at,
    remote_steps,
)

OTHER_CHANNEL = "edge"
OPENED = tuple(RemoteOpenRolloutRecord(ROLLOUT, CHANNEL, host) for host in (HOST, OTHER_HOST))
DISPATCH = RemoteQueueDispatch(HOST, ROLLOUT, TARGET, T0 + SOAK)
QUARANTINE = RemoteInsertQuarantine(CHANNEL, TARGET)

ONE_OF_EACH: tuple[ControlPlaneEffect, ...] = (
    RemoteAppendEventLog(HOST, ROLLOUT, CONVERGES[0]),
    DISPATCH,
    QUARANTINE,
    OPENED[0],
    RecordTransition(HOST, ROLLOUT, HostState.PENDING, HostState.ACTIVATING, at(1)),
    EmitMetric("nixfleet_host_transitions_total", (("to", "Activating"),), 1.0),
    EmitLog(LogLevel.ERROR, "nixfleet.host", "the rollback failed", (("exit_code", "1"),)),
)


@frozen
class LoggedFact:
    """A fact in the log, and who reported it in which rollout."""

    host: str
    rollout_id: RolloutId
    fact: AgentEvent


@frozen
class HandedOut:
    """What a host is to do, and until when it then soaks at least."""

    target_closure: str
    soak_due_at: datetime


class ControlPlaneWorld(ABC):
    """Your applier and the world it acts on: two hosts, to be given `TARGET` in one rollout of one channel."""

    @abstractmethod
    def apply(self, effect: ControlPlaneEffect) -> None:
        """Give one effect to your applier."""

    @abstractmethod
    def log(self) -> Sequence[LoggedFact]:
        """Return the facts in the log, in its order."""

    @abstractmethod
    def dispatched(self, host: str) -> HandedOut | None:
        """Return what the next poll of `host` is answered with, `None` for nothing."""

    @abstractmethod
    def quarantined(self, channel: str) -> Collection[str]:
        """Return the closures that `channel` must not get."""

    @abstractmethod
    def opened(self) -> Collection[tuple[RolloutId, str]]:
        """Return the rollouts and hosts that have a record."""

    def commit(self) -> None:
        """Make stand what was applied since the last commit. Override it if your applier collects."""

    def crash(self) -> None:
        """Lose what is only in memory, and start again. Override it if anything of your world outlives that."""

    def close(self) -> None:
        """Release resources. Override it if your world has any."""

    def transitions(self) -> Sequence[RecordTransition] | None:
        """Return the hosts' transitions that were passed on, oldest first. `None`: this world passes none on."""
        return None

    def metrics(self) -> Sequence[EmitMetric] | None:
        """Return what was recorded, oldest first. `None`: nothing is counted here."""
        return None

    def logs(self) -> Sequence[EmitLog] | None:
        """Return the log lines, oldest first. `None`: this world does not log."""
        return None


class ControlPlaneApplierContract(ABC):
    """What every applier of `ControlPlaneEffect` must do. Subclass it as `class TestMine(…)`."""

    @abstractmethod
    def make_world(self, directory: Path) -> ControlPlaneWorld:
        """Return a new world: the rollout is known, and nothing was applied yet.

        directory: an empty one, for a world that keeps files.
        """

    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[ControlPlaneWorld]:
        """A new world in which both hosts have their records; closed in the end."""
        world = self.make_world(tmp_path)
        for effect in OPENED:
            world.apply(effect)
        world.commit()
        yield world
        world.close()

    # Every effect arrives.

    @pytest.mark.parametrize("effect", ONE_OF_EACH, ids=lambda effect: type(effect).__name__)
    def test_each_kind_of_effect_is_carried_out(
        self, effect: ControlPlaneEffect, world: ControlPlaneWorld
    ) -> None:
        """No effect that `step` can return is unknown to the applier."""
        try:
            world.apply(effect)
        except Exception as error:
            raise AssertionError(
                f"your applier raised {error!r} on {effect!r}: it needs an arm for this effect"
            ) from error

    def test_an_effect_that_is_not_the_control_planes_is_refused(
        self, world: ControlPlaneWorld
    ) -> None:
        """An effect of the other side is an error, not something to pass over."""
        stray = cast(ControlPlaneEffect, LocalFireSwitch(ROLLOUT, TARGET))
        try:
            world.apply(stray)
        except Exception:
            return
        raise AssertionError(
            "your applier ignored an effect that it does not know: end its match in assert_never, "
            "or an effect that a later version adds is lost without a word"
        )

    # The log.

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_every_fact_is_logged_once_and_in_order(
        self, facts: tuple[AgentEvent, ...], world: ControlPlaneWorld
    ) -> None:
        """After a whole life the log has its facts, each once, as they were, in order."""
        _carry_out(world, facts)
        logged = [entry.fact for entry in world.log()]
        missing = [fact for fact in facts if fact not in logged]
        assert not missing, f"your applier lost facts: {missing}"
        assert len(logged) == len(facts), f"your applier logged facts twice: {_seqs(logged)}"
        assert logged == list(facts), f"your log has {_seqs(logged)}, not {_seqs(facts)}"

    def test_a_fact_is_logged_under_its_host_and_rollout(self, world: ControlPlaneWorld) -> None:
        """Two hosts that say the same are two rows, each with who said it."""
        for host in (HOST, OTHER_HOST):
            world.apply(RemoteAppendEventLog(host, ROLLOUT, CONVERGES[0]))
        world.commit()
        expected = [LoggedFact(host, ROLLOUT, CONVERGES[0]) for host in (HOST, OTHER_HOST)]
        assert list(world.log()) == expected, (
            f"the same fact of two hosts is two rows: {difference(expected, list(world.log()))}"
        )

    # What the effects order.

    def test_a_queued_dispatch_is_handed_to_its_host_alone(self, world: ControlPlaneWorld) -> None:
        """The host gets its closure, and no other host gets one."""
        world.apply(DISPATCH)
        world.commit()
        expected = HandedOut(DISPATCH.target_closure, DISPATCH.soak_due_at)
        found = world.dispatched(HOST)
        assert found == expected, (
            f"what {HOST} is handed is not what was queued for it: {difference(expected, found)}"
        )
        assert world.dispatched(OTHER_HOST) is None, (
            f"a dispatch for {HOST} was handed to {OTHER_HOST}: {world.dispatched(OTHER_HOST)}"
        )

    def test_a_quarantine_holds_for_its_channel_alone(self, world: ControlPlaneWorld) -> None:
        """A closure is quarantined on the channel where it failed, as often as that is said."""
        for _ in range(2):
            world.apply(QUARANTINE)
            world.commit()
        assert list(world.quarantined(CHANNEL)) == [TARGET], (
            f"{TARGET} was quarantined on {CHANNEL}, which has {list(world.quarantined(CHANNEL))}"
        )
        assert not world.quarantined(OTHER_CHANNEL), (
            f"a quarantine on {CHANNEL} holds on {OTHER_CHANNEL} too"
        )

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_the_closure_that_a_host_went_back_from_is_quarantined(
        self, facts: tuple[AgentEvent, ...], world: ControlPlaneWorld
    ) -> None:
        """After a life in which the host was Reverted its closure is quarantined, and after no other."""
        _carry_out(world, facts)
        went_back = any(it.record.state is HostState.REVERTED for it in remote_steps(facts))
        expected = [TARGET] if went_back else []
        assert list(world.quarantined(CHANNEL)) == expected, (
            f"after {HOST} {remote_steps(facts)[-1].record.state}, the quarantines should be {expected}, found "
            f"{list(world.quarantined(CHANNEL))}"
        )

    def test_an_opened_record_is_that_of_its_host(self, world: ControlPlaneWorld) -> None:
        """Each host of a rollout has a record once it was opened."""
        expected = {(ROLLOUT, HOST), (ROLLOUT, OTHER_HOST)}
        assert set(world.opened()) == expected, f"opened {expected}, found {set(world.opened())}"

    # Commits and crashes.

    def test_what_was_committed_outlives_a_crash(self, world: ControlPlaneWorld) -> None:
        """Log, dispatches, quarantines and records are as before the crash."""
        world.apply(DISPATCH)
        world.apply(RemoteAppendEventLog(OTHER_HOST, ROLLOUT, CONVERGES[0]))
        world.apply(QUARANTINE)
        world.commit()
        before = _seen(world)
        world.crash()
        after = _seen(world)
        for what in before:
            assert after[what] == before[what], (
                f"the {what} were {before[what]} when they were committed, and {after[what]} after a crash"
            )

    def test_nothing_stands_before_the_commit(self, world: ControlPlaneWorld) -> None:
        """What was applied and not committed never happened: the commit may have failed."""
        if type(world).commit is ControlPlaneWorld.commit:
            pytest.skip("this applier does everything at once")
        before = _seen(world)
        world.apply(RemoteAppendEventLog(HOST, ROLLOUT, CONVERGES[0]))
        world.apply(QUARANTINE)
        assert not world.log(), "a fact is in the log before the commit"
        world.crash()
        assert _seen(world) == before, (
            f"before: {before}; after effects that were never committed, and a crash: {_seen(world)}"
        )

    # Transitions, metrics, logs.

    @pytest.mark.parametrize("facts", HISTORIES.values(), ids=HISTORIES)
    def test_each_transition_is_passed_on_once(
        self, facts: tuple[AgentEvent, ...], world: ControlPlaneWorld
    ) -> None:
        """Each transition of a host is passed on, for example to its rollout."""
        expected = [e for e in _carry_out(world, facts) if isinstance(e, RecordTransition)]
        if (found := world.transitions()) is None:
            pytest.skip("this world passes no transitions on")
        assert list(found) == expected, (
            f"the transitions are not those that happened: {difference(expected, list(found))}"
        )

    def test_each_metric_is_recorded_once(self, world: ControlPlaneWorld) -> None:
        """What a life counts and measures is recorded, each figure once."""
        expected = [e for e in _carry_out(world, CONVERGES) if isinstance(e, EmitMetric)]
        if (found := world.metrics()) is None:
            pytest.skip("nothing is counted in this world")
        assert list(found) == expected, (
            f"the metrics are not those that were ordered: {difference(expected, list(found))}"
        )

    def test_each_log_line_reaches_the_operator(self, world: ControlPlaneWorld) -> None:
        """A rollback that failed is said, once."""
        expected = [e for e in _carry_out(world, ROLLBACK_FAILS_FIRST) if isinstance(e, EmitLog)]
        if (found := world.logs()) is None:
            pytest.skip("nothing is logged in this world")
        assert list(found) == expected, (
            f"the log lines are not those that were ordered: {difference(expected, list(found))}"
        )


def _carry_out(
    world: ControlPlaneWorld, facts: Sequence[AgentEvent]
) -> tuple[ControlPlaneEffect, ...]:
    """Apply the effects of a control plane that receives `facts`, and return them."""
    steps = remote_steps(facts)
    for step in steps:
        for effect in step.effects:
            world.apply(effect)
        world.commit()
    return tuple(effect for step in steps for effect in step.effects)


def _seen(world: ControlPlaneWorld) -> dict[str, object]:
    return {
        "logged facts": list(world.log()),
        "dispatches": {host: world.dispatched(host) for host in (HOST, OTHER_HOST)},
        "quarantines": sorted(world.quarantined(CHANNEL)),
        "records": sorted(world.opened()),
    }


def _seqs(facts: Sequence[AgentEvent]) -> list[int]:
    return [fact.seq for fact in facts]
