"""Agent appliers with one planted bug each. `says`: words of the failure that must tell its author what is wrong."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nixfleet_proto.agent_event import AgentEvent
from nixfleet_state_machine.host.effect import (
    AgentEffect,
    EmitLog,
    EmitMetric,
    LocalEmitEvent,
    LocalFireRollbackTo,
    LocalFireSwitch,
    LocalResetProbeCache,
)
from nixfleet_state_machine.host.state import HostRolloutState
from nixfleet_testing.contracts.agent_applier import AgentApplierContract, AgentWorld
from nixfleet_testing.contracts.histories import PRIOR
from tests.contracts.our_worlds import OurAgentWorld


class SeededContract(AgentApplierContract):
    """Tries the applier of `world_kind`."""

    world_kind: type[OurAgentWorld]

    def make_world(self, record: HostRolloutState, directory: Path) -> AgentWorld:
        return self.world_kind(record, directory)


class ActsAtOnce(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        if isinstance(effect, LocalFireSwitch):
            self.switch(effect.target)
        super().apply(effect)


class TestSwitchesBeforeTheFactIsDurable(SeededContract):
    """Fires a switch when it is ordered, and keeps the fact when it is committed."""

    says = "make the fact durable before you act on it"
    world_kind = ActsAtOnce


class SendsAtOnce(OurAgentWorld):
    def __init__(self, record: HostRolloutState, directory: Path) -> None:
        self._sent: list[AgentEvent] = []
        super().__init__(record, directory)

    def apply(self, effect: AgentEffect) -> None:
        if isinstance(effect, LocalEmitEvent):
            self._sent.append(effect.payload)
        super().apply(effect)

    def facts(self) -> Sequence[AgentEvent]:
        return self._sent


class TestSendsBeforeItIsDurable(SeededContract):
    """Sends a fact when it is lived, and keeps it when it is committed."""

    says = "could be sent before the commit"
    world_kind = SendsAtOnce


class SwallowsChatter(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        if not (isinstance(effect, LocalEmitEvent) and not effect.durable):
            super().apply(effect)


class TestSwallowsFactsThatNeedNotBeDurable(SeededContract):
    """Takes `durable=False` for "need not be sent"."""

    says = "your applier lost facts: [ProbeObservedFirst"
    world_kind = SwallowsChatter


class IgnoresRollbacks(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        if not isinstance(effect, LocalFireRollbackTo):
            super().apply(effect)


class TestSwallowsRollbacks(SeededContract):
    """Leaves a host on a closure that failed."""

    says = "LocalFireRollbackTo ordered 9xq-web-01-25.11"
    world_kind = IgnoresRollbacks


class SwallowsStrangers(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        with suppress(AssertionError):
            super().apply(effect)


class TestSwallowsWhatItDoesNotKnow(SeededContract):
    """Passes over an effect without an arm."""

    says = "end its match in assert_never"
    world_kind = SwallowsStrangers


class ForgetsToSwitch(OurAgentWorld):
    def crash(self) -> None:
        super().crash()
        self.actions = []


class TestForgetsADecidedSwitch(SeededContract):
    """Has no record of what was decided and not begun."""

    says = "keep what was decided where a restart finds it"
    world_kind = ForgetsToSwitch


class SwitchesEachTime(OurAgentWorld):
    def switch(self, closure: str) -> None:
        self._running = PRIOR if closure != PRIOR else ""
        super().switch(closure)


class TestFiresASwitchTwiceAfterARestart(SeededContract):
    """Carries an order out as often as it is given."""

    says = "was ordered again after a restart was carried out as"
    world_kind = SwitchesEachTime


class LastFirst(OurAgentWorld):
    def facts(self) -> Sequence[AgentEvent]:
        return super().facts()[::-1]


class TestReordersFacts(SeededContract):
    """Sends the newest fact first."""

    says = "your applier re-ordered facts"
    world_kind = LastFirst


class KeepsProbing(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        if not isinstance(effect, LocalResetProbeCache):
            super().apply(effect)


class TestKeepsProbing(SeededContract):
    """Has probes of a closure run on that is gone."""

    says = "still run after they were reset"
    world_kind = KeepsProbing


class StopsAllProbes(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        super().apply(effect)
        if isinstance(effect, LocalResetProbeCache):
            self._probed.clear()


class TestStopsTheProbesOfAllRollouts(SeededContract):
    """Resets what was not to be reset."""

    says = "its probes do not run"
    world_kind = StopsAllProbes


class CountsTwice(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        super().apply(effect)
        if isinstance(effect, EmitMetric):
            super().apply(effect)


class TestCountsTwice(SeededContract):
    """Records each figure twice."""

    says = "the metrics are not those that were ordered"
    world_kind = CountsTwice


class SaysNothing(OurAgentWorld):
    def apply(self, effect: AgentEffect) -> None:
        if not isinstance(effect, EmitLog):
            super().apply(effect)


class TestTellsTheOperatorNothing(SeededContract):
    """Swallows the line that says that a rollback failed."""

    says = "the log lines are not those that were ordered: [0]: missing EmitLog"
    world_kind = SaysNothing
