"""Control-plane appliers with one planted bug each. `says`: words of the failure that must tell what is wrong."""

from contextlib import suppress
from pathlib import Path

from attrs import evolve

from nixfleet_control_plane.engine.commit_builder import CommitBuilder
from nixfleet_control_plane.messages.writes import PutDispatch
from nixfleet_proto.agent_event import ProbeResult
from nixfleet_state_machine.host.effect import (
    ControlPlaneEffect,
    EmitLog,
    RecordTransition,
    RemoteAppendEventLog,
    RemoteInsertQuarantine,
    RemoteQueueDispatch,
)
from nixfleet_testing.contracts.control_plane_applier import (
    OTHER_CHANNEL,
    ControlPlaneApplierContract,
    ControlPlaneWorld,
)
from nixfleet_testing.contracts.histories import HOST, OTHER_HOST, PRIOR, T0
from tests.contracts.our_worlds import OurControlPlaneWorld


class SeededContract(ControlPlaneApplierContract):
    """Tries the applier of `world_kind`."""

    world_kind: type[OurControlPlaneWorld]

    def make_world(self, directory: Path) -> ControlPlaneWorld:
        return self.world_kind(directory)


class CommitsEachEffect(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        super().apply(effect)
        self.commit()


class TestWritesBeforeTheCommit(SeededContract):
    """Makes a fact durable though the commit that it belongs to may fail."""

    says = "a fact is in the log before the commit"
    world_kind = CommitsEachEffect


class DropsResults(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        if not (
            isinstance(effect, RemoteAppendEventLog) and isinstance(effect.payload, ProbeResult)
        ):
            super().apply(effect)


class TestLeavesProbeResultsOutOfTheLog(SeededContract):
    """Takes a probe's results for chatter."""

    says = "your applier lost facts: [ProbeResult"
    world_kind = DropsResults


class LogsTwice(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        super().apply(effect)
        if isinstance(effect, RemoteAppendEventLog):
            super().apply(effect)


class TestLogsTwice(SeededContract):
    """Appends each fact twice."""

    says = "your applier logged facts twice"
    world_kind = LogsTwice


class LogsUnderOneHost(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        if isinstance(effect, RemoteAppendEventLog):
            effect = evolve(effect, host=HOST)
        super().apply(effect)


class TestLogsUnderTheWrongHost(SeededContract):
    """Has one host say what another one said."""

    says = "[1].host: expected 'web-02', found 'web-01'"
    world_kind = LogsUnderOneHost


class SwallowsStrangers(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        with suppress(AssertionError):
            super().apply(effect)


class TestSwallowsWhatItDoesNotKnow(SeededContract):
    """Passes over an effect without an arm."""

    says = "end its match in assert_never"
    world_kind = SwallowsStrangers


class DispatchesToEverybody(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        super().apply(effect)
        if isinstance(effect, RemoteQueueDispatch):
            super().apply(evolve(effect, host=OTHER_HOST))


class TestDispatchesToTheWrongHost(SeededContract):
    """Hands a host's dispatch to others, too."""

    says = "a dispatch for web-01 was handed to web-02"
    world_kind = DispatchesToEverybody


class ForgetsDispatches(OurControlPlaneWorld):
    def commit(self) -> None:
        kept = CommitBuilder()
        for write in self.builder.writes:
            if not isinstance(write, PutDispatch):
                kept.write(write)
        self.builder = kept
        super().commit()


class TestForgetsDispatches(SeededContract):
    """Queues a dispatch in memory alone."""

    says = "the dispatches were {'web-01': HandedOut("
    world_kind = ForgetsDispatches


class LosesTheSoak(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        if isinstance(effect, RemoteQueueDispatch):
            effect = evolve(effect, soak_due_at=T0)
        super().apply(effect)


class TestLosesTheSoakWindow(SeededContract):
    """Hands out a dispatch whose soak is over when it begins."""

    says = "what web-01 is handed is not what was queued for it: soak_due_at: expected"
    world_kind = LosesTheSoak


class TellsNobody(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        if not isinstance(effect, RecordTransition):
            super().apply(effect)


class TestTellsNobodyOfTransitions(SeededContract):
    """Has a rollout that never hears how its hosts are."""

    says = "the transitions are not those that happened: [0]: missing RecordTransition("
    world_kind = TellsNobody


class QuarantinesEverywhere(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        super().apply(effect)
        if isinstance(effect, RemoteInsertQuarantine):
            super().apply(evolve(effect, channel=OTHER_CHANNEL))


class TestQuarantinesOnEveryChannel(SeededContract):
    """Keeps a closure from channels on which it did not fail."""

    says = "a quarantine on stable holds on edge too"
    world_kind = QuarantinesEverywhere


class QuarantinesTheWrongOne(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        if isinstance(effect, RemoteInsertQuarantine):
            effect = evolve(effect, closure=PRIOR)
        super().apply(effect)


class TestQuarantinesTheWrongClosure(SeededContract):
    """Quarantines what the host went back to."""

    says = "was quarantined on stable, which has ['9xq-web-01-25.11']"
    world_kind = QuarantinesTheWrongOne


class SaysNothing(OurControlPlaneWorld):
    def apply(self, effect: ControlPlaneEffect) -> None:
        if not isinstance(effect, EmitLog):
            super().apply(effect)


class TestTellsTheOperatorNothing(SeededContract):
    """Swallows the line that says that a rollback failed."""

    says = "the log lines are not those that were ordered: [0]: missing EmitLog"
    world_kind = SaysNothing
