"""An agent's engine by itself: tell it something, look at what it wrote and ordered."""

from datetime import UTC, datetime, timedelta

from nixfleet_agent.activation.activator import SwitchCompleted
from nixfleet_agent.engine.engine import AgentEngine
from nixfleet_agent.engine.state import State
from nixfleet_agent.messages.inputs import (
    Action,
    Booted,
    CarryOut,
    ChecksLoaded,
    DispatchOffered,
    Input,
    Intent,
    ProbeRan,
    Reply,
    SwitchEnded,
    Tick,
)
from nixfleet_agent.messages.writes import AppendEvent, Write
from nixfleet_agent.probes.runner import ProbeOutcome
from nixfleet_proto.agent_event import AgentEvent, OnHealthFailure, ProbeStatus
from nixfleet_proto.codec import HealthCheckSet, encode_manifest
from nixfleet_proto.fleet import Meta, RolloutPolicy
from nixfleet_proto.health_check import ExecProbe
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.manifest import HostAssignment, RolloutManifest
from nixfleet_proto.policy import Deadlines, Recall, Retry
from nixfleet_proto.signing import SigningKey, sign_artefact, verify_manifest
from nixfleet_proto.trust import KeySlot, TrustRoot, Verified
from nixfleet_proto.wire import Dispatch
from nixfleet_state_machine.host.state import HostRolloutState

T0 = datetime(2026, 5, 16, 1, 0, tzinfo=UTC)
KEY = SigningKey.generate()
ALIVE = HealthCheckSet({"alive": ExecProbe(("bin/alive",))})
SOAK_MINUTES = 5
TICK_SECONDS = 30.0
PROBE_SECONDS = 30
FAILED = ProbeOutcome(ProbeStatus.FAIL, "expected status 200, found 503")


def manifest_of(
    channel_ref: str = "r1",
    closure: str = "new",
    on_health_failure: OnHealthFailure = OnHealthFailure.ROLLBACK_AND_HALT,
    signed_at: datetime = T0,
    soak_minutes: tuple[int, ...] = (SOAK_MINUTES,),
    not_before: tuple[datetime | None, ...] = (),
    attempts: int = 1,
    deadlines: Deadlines | None = None,
    recall: Recall = Recall.NEVER,
) -> Verified[RolloutManifest]:
    """A verified manifest that gives web-01 `closure`."""
    manifest = RolloutManifest(
        channel="stable",
        channel_ref=channel_ref,
        display_name=f"stable@{channel_ref}",
        fleet_resolved_hash="0" * 64,
        host_set=(HostAssignment("web-01", closure),),
        meta=Meta(signed_at),
        rollout_policy=RolloutPolicy(
            on_health_failure,
            deadlines=deadlines or Deadlines(),
            retry=Retry(attempts),
            recall=recall,
        ),
        wave_soak_minutes=soak_minutes,
        wave_not_before=not_before,
    )
    return verify_manifest(
        sign_artefact(encode_manifest(manifest), KEY),
        TrustRoot(KeySlot(KEY.public_key)),
        signed_at,
        freshness_window_minutes=60,
        expected_rollout_id=manifest.rollout_id,
    )


class LoneAgent:
    """web-01's engine, at a time that the test sets."""

    def __init__(self, state: State | None = None) -> None:
        self.now = T0
        self.state = state or State("web-01")
        self.engine = AgentEngine(self.state)
        self.unsent: frozenset[RolloutId] = frozenset()
        self.facts: list[AgentEvent] = []
        self.writes: tuple[Write, ...] = ()
        self.actions: tuple[Action, ...] = ()

    def tell(self, input: Input, *, after_seconds: float = 0) -> Reply:
        """Put `input` to the engine after so many seconds, with the ticks that come meanwhile; note the result."""
        while after_seconds > TICK_SECONDS:
            after_seconds -= TICK_SECONDS
            unsent = input.unsent if isinstance(input, Tick) else self.unsent
            self._handled(Tick(unsent), TICK_SECONDS)
        return self._handled(input, after_seconds)

    def fail_probe(self, seconds: float, probe_name: str = "alive") -> None:
        """Have a probe of stable@r1 fail now, at its interval, and at the end of `seconds`."""
        times = [*range(0, int(seconds), PROBE_SECONDS), seconds]
        for before, at in zip([0.0, *times], times, strict=False):
            failed = ProbeRan(RolloutId("stable@r1"), probe_name, FAILED)
            self.tell(failed, after_seconds=at - before)

    def restart(self, running: str) -> None:
        """Begin anew with what a journal keeps, and find `running`."""
        before, self.state = self.state, State("web-01")
        for rollout_id, rollout in before.rollouts.items():
            self.state.rollouts.set(rollout_id, rollout)
        for intent_id, intent in before.intents.items():
            self.state.intents.set(intent_id, intent)
        for closure, left in before.rolled_back.items():
            self.state.rolled_back.set(closure, left)
        for order_id, order in before.orders.items():
            self.state.orders.set(order_id, order)
        self.state.newest_release.set(before.newest_release.get())
        self.state.last_intent_id.set(before.last_intent_id.get())
        self.engine = AgentEngine(self.state)
        self.tell(Booted(running))

    def step_clock(self, seconds: float) -> None:
        """Set the clock forward or back, with no time passing."""
        self.now += timedelta(seconds=seconds)

    def _handled(self, input: Input, after_seconds: float) -> Reply:
        self.now += timedelta(seconds=after_seconds)
        commit = self.engine.handle(input, self.now)
        self.engine.settle()
        self.writes, self.actions = commit.writes, commit.actions
        self.facts += [write.fact for write in commit.writes if isinstance(write, AppendEvent)]
        return commit.reply

    def offered(
        self,
        manifest: Verified[RolloutManifest] | None = None,
        *,
        hostname: str = "web-01",
        closure: str = "new",
        rollout_id: str | None = None,
        running: str = "old",
        attempt: int | None = None,
    ) -> DispatchOffered:
        """A dispatch as it comes in, true to the manifest unless told otherwise."""
        manifest = manifest or manifest_of()
        dispatch = Dispatch(
            hostname,
            rollout_id or manifest.value.rollout_id,
            closure,
            self.now + timedelta(minutes=SOAK_MINUTES),
            self.now,
            attempt,
        )
        return DispatchOffered(dispatch, manifest, running)

    def record(self, rollout_id: str = "stable@r1") -> HostRolloutState:
        return self.state.rollouts[RolloutId(rollout_id)].record

    @property
    def intent(self) -> Intent:
        """The one act that the last input ordered."""
        (ordered,) = [action for action in self.actions if isinstance(action, CarryOut)]
        return ordered.intent


def soaking_agent(manifest: Verified[RolloutManifest] | None = None) -> LoneAgent:
    """An agent whose host switched to `new` and whose one probe has not run yet."""
    agent = LoneAgent()
    agent.tell(agent.offered(manifest))
    agent.tell(SwitchEnded(agent.intent.intent_id, SwitchCompleted("new", 0)))
    agent.tell(ChecksLoaded(agent.record().rollout_id, ALIVE))
    return agent
